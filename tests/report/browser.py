"""Pages opened in headless Chromium, for the tests of reports."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest


def browse(page: Path, home: Path, *arguments: str) -> tuple[str, str]:
    """Open a page in headless Chromium; gives what it printed and its console."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed (Debian package chromium)")
    switches = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        "--enable-logging=stderr",
        f"--user-data-dir={home}",
    ]
    done = subprocess.run(
        [chromium, *switches, *arguments, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def framed(page: Path, width: int, height: int) -> Path:
    """The page in a frame, since a headless window is never narrower than 500 pixels; reports what sticks out."""
    frame = page.with_name(f"frame_{width}.html")
    inlined = json.dumps(page.read_text(encoding="utf-8")).replace("</", "<\\/")
    frame.write_text(
        f"""<!doctype html><body style="margin:0">
<iframe id="f" width="{width}" height="{height}" style="border:0"></iframe>
<pre id="out"></pre><script>
const f = document.getElementById("f");
f.onload = () => {{
  const root = f.contentDocument.documentElement;
  const out = [...f.contentDocument.querySelectorAll("main *")].filter(e => !e.closest(".scroll")
    && e.getBoundingClientRect().right > {width} + 0.5).map(e => e.tagName + "." + e.className);
  const broken = [...f.contentDocument.images].filter(i => !i.complete || !i.naturalWidth).length;
  const found = [root.scrollWidth, out, broken, f.contentDocument.images.length];
  document.getElementById("out").textContent = JSON.stringify(found);
}};
f.srcdoc = {inlined};
</script>""",
        encoding="utf-8",
    )
    return frame
