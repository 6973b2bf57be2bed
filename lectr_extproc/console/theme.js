// Runs before anything is drawn, so that no page flashes in the other colours.
const chosen = localStorage.getItem("lectr.theme");
if (chosen) document.documentElement.dataset.theme = chosen;
