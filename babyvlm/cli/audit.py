"""Auditing a trials folder: which items can be solved without seeing, reading or knowing. Explained in nbs/milestones/30_audit.ipynb."""

import tempfile
from pathlib import Path

from babyvlm.core.basics import WrongInput


def audit_folder(trials, out=None, seed=0):
    "Examine a trials folder, or published items in any known layout; print the table, write `audit.json`, return the audit."
    from babyvlm.milestones.audit import audit, write_audit
    from babyvlm.milestones.devcv_more import open_trials

    trials = Path(trials)
    target = place(trials, out)
    with tempfile.TemporaryDirectory(prefix="babyvlm-audit-") as room:
        report = audit(open_trials(trials, Path(room) / "trials"), seed=seed)
    report["trials"] = trials.name
    print(report)
    write_audit(report, target)
    print(f"all items: {target}")
    return report


def place(trials, out):
    "The file to write: OUT, or audit.json in it, or beside the trials; `WrongInput` when that place may not be written."
    target = Path(out) if out is not None else trials if trials.is_dir() else trials.parent
    target = target / "audit.json" if target.is_dir() else target
    if not target.parent.is_dir():
        raise WrongInput(f"--out: {target.parent} does not exist; give a file in an existing folder")
    try:
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        raise WrongInput(f"{target.parent} may not be written ({error.strerror}); name another place with --out") from None
    return target
