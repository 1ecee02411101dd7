/* How search results are ordered: as Sphinx does, and of pages with the word in their title the one with the shortest
   title first.  "outlier" finds "Outliers" before "Bounds, outliers, derivatives". */
var Scorer = {
  score: (result) => {
    const [docname, title, anchor, descr, score] = result;
    const query = (new URLSearchParams(window.location.search).get("q") || "").trim().toLowerCase();
    const holds = query && !anchor && title.toLowerCase().split(/\W+/).some((word) => word.startsWith(query));
    return score + (holds ? 5 * query.length / Math.max(title.length, query.length) : 0);
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
