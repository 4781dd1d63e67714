// A flag can be searched for as it is written: to the search, words that begin with a dash are words to leave out.
document.addEventListener(
  "input",
  (event) => {
    if (event.target.matches?.(".md-search__input")) {
      event.target.value = event.target.value.replace(/(^|\s)-+/g, "$1");
    }
  },
  true,
);
