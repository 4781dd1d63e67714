// A flag can be searched for as it is written: to the search, words that begin with a dash are words to leave out. So can
// C++, whose signs it ignores: a page about it links to examples/cpp.
document.addEventListener(
  "input",
  (event) => {
    if (event.target.matches?.(".md-search__input")) {
      event.target.value = event.target.value.replace(/(^|\s)-+/g, "$1").replace(/\bc\+\+/gi, "cpp");
    }
  },
  true,
);
