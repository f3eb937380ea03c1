// nbconvert ignores how JupyterLab folds cells: in a page saved as HTML solutions would stand open. Its class for
// their tag is all that a script needs; JupyterLab and the site have no such class, and fold by themselves.
document.addEventListener("DOMContentLoaded", () => {
  for (const cell of document.querySelectorAll(".celltag_solution")) {
    const fold = document.createElement("details");
    fold.innerHTML = '<summary style="font: 14px sans-serif; margin-left: 6em">Solution</summary>';
    cell.replaceWith(fold);
    fold.append(cell);
  }
});
