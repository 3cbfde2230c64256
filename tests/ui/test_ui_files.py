"""The files of the page, and how they are answered."""

from pathlib import Path

from support.http import HttpServer

FOLDER = Path(__file__).parents[2] / "featurestore" / "ui"
MOST_BYTES = 100_000


def test_the_files_are_small_and_name_no_other_host() -> None:
    files = [path for path in FOLDER.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    text = "".join(path.read_text() for path in files)
    assert {piece.split("/", 1)[0] for piece in text.split("http://")[1:]} <= {"www.w3.org"}
    assert "https://" not in text
    for unsafe in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "onclick=", "style="):
        assert unsafe not in text


def test_a_file_is_answered_with_its_type_policy_and_tag(server: HttpServer) -> None:
    for path, kind in (("/ui", "text/html"), ("/ui/main.js", "text/javascript"), ("/ui/style.css", "text/css")):
        answer = server.get(path)
        assert (answer.status, answer.headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        again = server.request("GET", path, **{"If-None-Match": answer.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")
        assert server.request("HEAD", path).headers["ETag"] == answer.headers["ETag"]
    assert server.get("/ui/").headers["Location"] == "../ui"
    assert [server.get(path).status for path in ("/ui/nothing.js", "/ui/..%2Fkeys.py", "/ui/a/b")] == [404, 404, 404]
    assert server.request("POST", "/ui", b"").status == 405
