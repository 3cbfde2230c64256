"""Pages of plain HTML, without scripts: the links of `/`, and the document where Swagger UI is not installed."""

from collections.abc import Mapping
from html import escape
from typing import Any

_EXTRA = "pip install 'redis-featurestore[swagger]'"


def of_links(links: Mapping[str, tuple[str, str]]) -> bytes:
    """Return the page with links: name → path, and what is there."""
    items = "\n".join(
        f'<li><a href="{escape(path[1:])}">{escape(name)}</a>: {escape(told)}</li>'
        for name, (path, told) in links.items()
    )
    return _page("Redis feature store", f"<ul>\n{items}\n</ul>", "docs/page.css")


def of_document(document: Mapping[str, Any], style_digest: str) -> bytes:
    """Return the page with all operations of an OpenAPI document."""
    intro = "The contract is <a href='openapi.json'>openapi.json</a>, for generators of clients and for tools."
    parts = [f"<p>{intro} To try requests here, the server needs Swagger UI: <code>{escape(_EXTRA)}</code></p>"]
    operations = [
        (method.upper(), path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]
    for tag in document["tags"]:
        rows = [
            f"<tr><td>{method}</td><td><code>{escape(path)}</code></td><td>{escape(operation['summary'])}</td>"
            f"<td>{', '.join(operation['responses'])}</td></tr>"
            for method, path, operation in operations
            if tag["name"] in operation["tags"]
        ]
        parts += [f"<h2>{escape(tag['name'])}</h2>", f"<p>{escape(tag['description'])}</p>"]
        parts += ["<table>", "<tr><th>method</th><th>path</th><th>what it does</th><th>statuses</th></tr>", *rows]
        parts.append("</table>")
    return _page(f"{document['info']['title']} {document['info']['version']}", "\n".join(parts),
                 f"docs/page.css?v={style_digest}")  # fmt: skip


def _page(title: str, body: str, style: str) -> bytes:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{escape(style)}">
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{body}
</main>
</body>
</html>
""".encode()
