"""Finds a Chromium and drives a real JupyterLab with it, for the tests of the widgets."""
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": True},  # the worst case for privacy
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},  # cells stay in the page: one less thing that reacts to sizes
}


def _playwrights_own():
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        path = p.chromium.executable_path
    return path if Path(path).exists() else None


def _run(*command):
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(command, capture_output=True, timeout=600).returncode == 0
    return False


def _on_path():
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None)


def chromium() -> str:
    "Path of a Chromium: the system's, playwright's, or one installed now; fails with one clear line."
    found = _on_path() or _playwrights_own()
    if not found and _run(sys.executable, "-m", "playwright", "install", "chromium"):
        found = _playwrights_own()
    if not found and shutil.which("apt-get") and os.geteuid() == 0:
        _run("apt-get", "update")
        _run("apt-get", "install", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core")
        found = _on_path()
    if not found:
        raise RuntimeError("the widget tests need a browser: install Chromium (`apt-get install chromium`, or `playwright install chromium`)")
    return found


def _free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def jupyterlab(folder):
    "A JupyterLab with private settings that serves `folder`; yields `url(name)` for its notebooks."
    folder = Path(folder)
    private, port, token = folder/".private", _free_port(), secrets.token_hex(8)
    (private/"cfg"/"labconfig").mkdir(parents=True)
    (private/"cfg"/"labconfig"/"default_setting_overrides.json").write_text(json.dumps(SETTINGS))
    env = dict(os.environ, JUPYTER_CONFIG_DIR=str(private/"cfg"), JUPYTER_DATA_DIR=str(private/"data"), JUPYTER_RUNTIME_DIR=str(private/"rt"),
               IPYTHONDIR=str(private/"ipython"), JUPYTERLAB_WORKSPACES_DIR=str(private/"work"), JUPYTERLAB_SETTINGS_DIR=str(private/"set"),
               PYTHONPATH=os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", "")))))
    with open(folder/".lab.log", "w") as log:
        server = subprocess.Popen([sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
                                   f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}", "--ContentsManager.allow_hidden=False",
                                   "--LabApp.extension_manager=readonly", "--LabApp.expose_app_in_browser=True"], env=env, stdout=log, stderr=log)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api?token={token}", server, folder/".lab.log")
        yield lambda name: f"http://127.0.0.1:{port}/lab/tree/{name}?token={token}&reset"
    finally:
        _stop(server)


def _wait_for(url, server, log, seconds=90):
    for _ in range(seconds * 4):
        if server.poll() is not None:
            break
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(url, timeout=5).read()
        time.sleep(.25)
    raise RuntimeError("JupyterLab did not start: " + log.read_text()[-600:])


def _stop(server):
    server.terminate()
    try:
        server.wait(15)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


@contextlib.contextmanager
def lab_page(folder, width=1280, height=900, **context):
    "A browser page with JupyterLab behind it; yields `(page, url)`. `page.away` lists requests that left the machine, `page.faults` its errors."
    from playwright.sync_api import sync_playwright
    path = chromium()
    with jupyterlab(folder) as url, sync_playwright() as p:
        browser = p.chromium.launch_persistent_context(str(Path(folder)/".private"/"profile"), executable_path=path, headless=True, args=FLAGS,
                                                       viewport=dict(width=width, height=height), **context)
        page = browser.pages[0]
        page.away, page.faults = [], []
        local = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:", "about:")
        page.on("request", lambda request: None if request.url.startswith(local) else page.away.append(request.url))
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.set_default_timeout(45_000)
        try:
            yield page, url
        finally:
            browser.close()


def open_and_run(page, url):
    "Open a notebook, wait for its kernel, run all cells."
    page.goto(url)
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_selector('text="Python 3 (ipykernel) | Idle"')
    command(page, "notebook:run-all-cells")


def command(page, name, **arguments):
    "Run a JupyterLab command."
    page.evaluate("async ([name, args]) => { await window.jupyterapp.commands.execute(name, args) }", [name, arguments])  # what it returns stays there


def write_notebook(path, *cells):
    "A notebook of code cells."
    cells = [dict(cell_type="code", id=f"c{k}", metadata={}, execution_count=None, outputs=[], source=text) for k, text in enumerate(cells)]
    Path(path).write_text(json.dumps(dict(cells=cells, metadata=dict(kernelspec=dict(name="python3", display_name="Python 3 (ipykernel)", language="python")),
                                          nbformat=4, nbformat_minor=5)))
    return Path(path)


IMPACTS = ("minor", "moderate", "serious", "critical")


def faults_for(page, root, least="serious"):
    "What axe-core finds wrong within `root` for people who see, hear or move differently, `least` or worse: one line a finding."
    import axe_playwright_python
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate((Path(axe_playwright_python.__file__).parent/"axe.min.js").read_text() + "; 0")
    found = page.evaluate("""async (root) => {
      document.body.style.height = '100vh';  // JupyterLab's body has no height and hides what flows over: axe would take all text for hidden
      try { return (await axe.run(root, {resultTypes: ['violations'], iframes: false})).violations } finally { document.body.style.height = '' } }""", root)
    return [f"{v['impact']} {v['id']}: {node['html'][:160]} ({node['failureSummary'].splitlines()[-1].strip()})"
            for v in found if IMPACTS.index(v["impact"]) >= IMPACTS.index(least) for node in v["nodes"]]


LOOKS = [(f"JupyterLab {theme}", width) for theme in ("Light", "Dark") for width in (1280, 800)]


def put_on(page, theme, width, height=1000):
    "A theme of JupyterLab and a width of the window."
    page.set_viewport_size(dict(width=width, height=height))
    command(page, "apputils:change-theme", theme=theme)
    page.wait_for_selector(f"body[data-jp-theme-name='{theme}']", state="attached")
    page.wait_for_timeout(600)


def fits(page, root):
    "Whether nothing of a widget lies beyond its right edge or the window's."
    return page.evaluate("(root) => { const n = document.querySelector(root); return n.scrollWidth <= n.clientWidth + 1 && n.getBoundingClientRect().right <= innerWidth }", root)
