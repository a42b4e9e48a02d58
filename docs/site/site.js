// A wide table scrolls inside its box: whoever has no mouse scrolls it with the arrow keys, once it has the focus.
// The theme makes the boxes after the page has loaded.
const focusable = () => {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex]), .md-typeset pre > code:not([tabindex])")) {
    box.tabIndex = 0;
  }
};
new MutationObserver(focusable).observe(document.body, { childList: true, subtree: true });
focusable();
