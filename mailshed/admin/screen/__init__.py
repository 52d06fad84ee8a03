"""`mailshed status`: the state of the service as one screen of text.

`page` puts it together: `level` has the line that is read first, `table` the classes, `backends`
their lines, and `words` knows how numbers and texts are written. All of it is pure.
"""

from mailshed.admin.screen.page import COLUMNS, override_words, render

__all__ = ["COLUMNS", "override_words", "render"]
