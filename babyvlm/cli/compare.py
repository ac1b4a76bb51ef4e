"""Comparing finished reports: which learner is better at what. Explained in nbs/milestones/41_compare.ipynb."""


def compare_reports(reports, out=None, seed=0):
    "Compare the learners of some reports, print the table, and write the page where one is asked for; returns the comparison."
    from babyvlm.milestones.compare import compare, comparison_text, write_comparison

    comparison = compare(reports, seed=seed)
    print(comparison_text(comparison))
    if not comparison["same_trials"]:
        print("the reports were made on different trials; only what they share is compared")
    if out is not None:
        print(f"comparison: {write_comparison(comparison, out)}")
    return comparison
