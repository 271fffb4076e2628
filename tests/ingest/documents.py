"""Makes documents of every format for the tests, with what must come out of them."""

from __future__ import annotations

import io
import zipfile
from email.message import EmailMessage

HTML = b"""<!doctype html><html lang="en"><head><title>My page</title><meta name="author" content="Ann">
<meta property="article:published_time" content="31 Jan 2024"><style>p {color: red}</style></head>
<body><nav><a href="/">Home</a></nav><h2>First<a class="headerlink" href="#">#</a></h2>
<p>Some <b>bold</b> &amp; plain<br>second line <img src="x" alt="a cat"></p>
<ul><li>one<ul><li>deep</li></ul></li><li>two</li></ul><ol start="3"><li>c<li>d</ol>
<pre class="language-python">def f():
    return "&lt;"
</pre><table><tr><th>a<th>b<tr><td>1<td>2|3</table><script>alert(1)</script>
<p hidden>unseen</p><blockquote><p>said</p></blockquote></body></html>"""
HTML_TEXT = """# My page

## First

Some bold & plain
second line a cat

- one
  - deep
- two

3. c
4. d

```python
def f():
    return "<"
```

| a | b |
| --- | --- |
| 1 | 2\\|3 |

> said"""


def pdf(*pages: str, password: str | None = None, title: str | None = None) -> bytes:
    """A PDF with a text layer, a line of text a line; a page of "" has none."""
    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = PdfWriter()
    for text in pages:
        page = writer.add_blank_page(300, 300)
        font = DictionaryObject(
            {
                NameObject("/Type"): NameObject("/Font"),
                NameObject("/Subtype"): NameObject("/Type1"),
                NameObject("/BaseFont"): NameObject("/Helvetica"),
            }
        )
        page[NameObject("/Resources")] = DictionaryObject(
            {NameObject("/Font"): DictionaryObject({NameObject("/F1"): font})}
        )
        shown = " T* ".join(f"({line}) Tj" for line in text.split("\n")) if text else ""
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 14 TL 20 250 Td {shown} ET".encode("latin-1"))
        page[NameObject("/Contents")] = stream
    if title:
        writer.add_metadata({"/Title": title, "/Author": "Ann", "/CreationDate": "D:20240131100000Z"})
    if password is not None:
        writer.encrypt(password, "owner", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def docx() -> bytes:
    """A Word document with every kind of block."""
    from datetime import datetime

    import docx as word
    from docx.enum.style import WD_STYLE_TYPE

    document = word.Document()
    document.core_properties.title = "A report"
    document.core_properties.author = "Bo"
    document.core_properties.created = datetime(2024, 1, 31, 10)
    document.core_properties.language = "de-DE"
    document.add_heading("The report", 0)
    document.add_heading("Part one", 1)
    document.add_paragraph("Grüße  an alle.")
    document.add_paragraph("one", style="List Bullet")
    document.add_paragraph("two", style="List Bullet")
    document.styles.add_style("Source Code", WD_STYLE_TYPE.PARAGRAPH)
    document.add_paragraph("x = 1", style="Source Code")
    document.add_paragraph("y = 2", style="Source Code")
    table = document.add_table(2, 2)
    for at, text in enumerate("abcd"):
        table.cell(at // 2, at % 2).text = text
    document.add_heading("Below", 2)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


DOCX_TEXT = """# The report

# Part one

Grüße an alle.

- one
- two

```
x = 1
y = 2
```

| a | b |
| --- | --- |
| c | d |

## Below"""


def epub(*, locked: bool = False, missing: bool = False) -> bytes:
    """A book of two chapters, whose files are named against their order."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as book:
        book.writestr("mimetype", "application/epub+zip")
        book.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="OPS/book.opf"/></rootfiles></container>',
        )
        book.writestr(
            "OPS/book.opf",
            '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata>'
            "<dc:title>Tales</dc:title><dc:creator>Ann</dc:creator><dc:creator>Bo</dc:creator>"
            "<dc:language>en</dc:language><dc:date>2024-01-31</dc:date></metadata><manifest>"
            '<item id="one" href="b%20one.xhtml" media-type="application/xhtml+xml"/>'
            '<item id="two" href="a.xhtml" media-type="application/xhtml+xml"/>'
            '<item id="toc" href="toc.xhtml" media-type="application/xhtml+xml" properties="nav"/></manifest>'
            '<spine><itemref idref="toc"/><itemref idref="one"/><itemref idref="two"/></spine></package>',
        )
        page = '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><body>{}</body></html>'
        book.writestr("OPS/b one.xhtml", page.format("<h1>One</h1><p>Grüße.</p>"))
        book.writestr("OPS/toc.xhtml", page.format("<nav>One Two</nav>"))
        if not missing:
            book.writestr("OPS/a.xhtml", page.format("<h1>Two</h1><p>The end.</p>"))
        if locked:
            book.writestr(
                "META-INF/encryption.xml",
                '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" '
                'xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData><enc:CipherData>'
                '<enc:CipherReference URI="OPS/a.xhtml"/></enc:CipherData></enc:EncryptedData></encryption>',
            )
    return out.getvalue()


def mail(*, plain: bool = True) -> bytes:
    """A message with HTML, an attachment, and plain text too unless it is told not to."""
    message = EmailMessage()
    message["Subject"] = "Grüße an alle"
    message["From"] = "Ann <a@example.org>"
    message["To"] = "b@example.org"
    message["Date"] = "Wed, 31 Jan 2024 10:00:00 +0100"
    if plain:
        message.set_content("Schöne Grüße\n", charset="iso-8859-1")
        message.add_alternative("<p>other</p>", subtype="html")
    else:
        message.set_content("<h2>News</h2><p>Schöne Grüße</p>", subtype="html")
    message.add_attachment(b"%PDF-", maintype="application", subtype="pdf", filename="a.pdf")
    return message.as_bytes()


RST = b"""
=====
Title
=====
:Author: Bo
:Date: 31 Jan 2024

Intro with :func:`~foo.bar` and ``code``.

.. toctree::

   hidden

Section
-------

.. versionadded:: 1.2
   New thing.

.. code-block:: python

   print(1)

* a
* b

.. include:: /etc/passwd
"""
RST_TEXT = """# Title

Intro with foo.bar and code.

## Section

1.2

New thing.

```python
print(1)
```

- a
- b"""
