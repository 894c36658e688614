// Orders what the search of the site finds: guides before the reference, and the history of the project last.
var Scorer = (() => {
  const past = /^(changelog|decisions\/|faults|differences|figures)/;
  const answers = /^(howto\/|why$|moving-in$|from-)/;

  const ofPage = (page) => {
    if (page === "howto/index") return 9;
    if (past.test(page)) return -30;
    if (page.startsWith("reference")) return -12;
    return answers.test(page) ? 10 : 6;
  };

  return {
    score: ([page, , , , score]) => score + ofPage(page),
    objNameMatch: 30,
    objPartialMatch: 6,
    objPrio: { 0: 15, 1: 5, 2: -5 },
    objPrioDefault: 0,
    title: 15,
    partialTitle: 7,
    term: 5,
    partialTerm: 2,
  };
})();

// Words of questions, which say nothing of the subject.
for (const word of ["can", "get", "make", "want", "use", "way", "happen", "work"]) stopwords.add(word);

// Ranks a page by all words that it has, rare ones first. Sphinx takes only pages with every word, by their best word.
(() => {
  const pagesWith = Search.performTermsSearch;

  Search.performTermsSearch = (words, excluded) => {
    const pages = Search._index.docnames.length;
    const found = new Map();
    let all = 0;
    for (const word of words) {
      const results = pagesWith(new Set([word]), excluded);
      const weight = Math.log(1 + pages / (results.length || 1));
      all += weight;
      for (const [page, title, anchor, description, score, file, kind] of results) {
        const before = found.get(page) ?? { weight: 0, score: 0 };
        const sum = { weight: before.weight + weight, score: before.score + weight * score };
        found.set(page, { ...sum, result: [page, title, anchor, description, sum.score, file, kind] });
      }
    }
    return [...found.values()].filter((page) => page.weight > 0.6 * all).map((page) => page.result);
  };
})();
