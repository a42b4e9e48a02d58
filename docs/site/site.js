// A wide table scrolls inside its box: whoever has no mouse scrolls it with the arrow keys, once it has the focus.
for (const box of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code")) {
  box.tabIndex = 0;
}
