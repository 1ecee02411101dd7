/* Long names in titles and in the links to the next page break after a dot or an underscore, not within a word. */
document.addEventListener("DOMContentLoaded", () => {
  for (const box of document.querySelectorAll(".bd-article h1, .prev-next-title, .bd-breadcrumbs .active")) {
    const walker = document.createTreeWalker(box, NodeFilter.SHOW_TEXT), texts = [];
    while (walker.nextNode()) texts.push(walker.currentNode);
    for (const text of texts) {
      const parts = text.data.split(/(?<=[._](?=\w))/);
      if (parts.length > 1) text.replaceWith(...parts.flatMap((part, k) => k ? [document.createElement("wbr"), part] : [part]));
    }
  }
});
