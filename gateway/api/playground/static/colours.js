// Light or dark: as the system says, unless this browser was told otherwise.

const NAME = "llm-gateway.colours";

export function offerColours() {
    const select = document.getElementById("colours");
    const show = (choice) => (document.documentElement.dataset.colours = choice);
    select.value = localStorage.getItem(NAME) ?? "";
    show(select.value);
    select.onchange = () => {
        localStorage.setItem(NAME, select.value);
        show(select.value);
    };
}
