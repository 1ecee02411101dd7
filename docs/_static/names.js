/* Long names in titles and in the links to the next page break after a dot or an underscore, not within a word. */
document.addEventListener("DOMContentLoaded", () => {
  for (const box of document.querySelectorAll(".bd-article h1, .prev-next-title, .bd-breadcrumbs .active")) {
    const walker = document.createTreeWalker(box, NodeFilter.SHOW_TEXT), nodes = [];
    while (walker.nextNode()) nodes.push(walker.currentNode);
    for (const text of nodes) {
      const parts = text.data.split(/(?<=[._](?=\w))/);
      if (parts.length > 1) text.replaceWith(...parts.flatMap((part, k) => k ? [document.createElement("wbr"), part] : [part]));
    }
  }
});
