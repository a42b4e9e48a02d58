// What Gradio tells screen readers wrongly: its row of examples is no list, since it holds buttons; attached files are
// in none; and the head of a notice is no button, since it holds one.
(() => {
  "use strict";
  function mend() {
    for (const row of document.querySelectorAll('.examples[role="list"]')) {
      row.setAttribute("role", "group");
      row.setAttribute("aria-label", "Examples");
    }
    for (const file of document.querySelectorAll('.thumbnail-wrapper[role="listitem"]')) file.setAttribute("role", "group");
    for (const head of document.querySelectorAll('.toast-header[role="button"]')) {
      head.removeAttribute("role");
      head.removeAttribute("tabindex");
    }
  }
  new MutationObserver(mend).observe(document, { childList: true, subtree: true });
})();
