// Confirms destructive actions in a dialog. Without this script, the server asks on a page of its own.
"use strict";
(() => {
  const dialog = document.getElementById("confirmation");
  const [question, warning] = dialog.querySelectorAll("h2, #consequence");
  const [keep, confirm] = dialog.querySelectorAll("button");
  let asked = null;

  // Sends the form with the field that confirms it. The field does not stay: a page that the browser shows again asks again.
  const send = ({ form, submitter }) => {
    const field = document.createElement("input");
    Object.assign(field, { type: "hidden", name: "confirmed", value: "yes" });
    form.append(field);
    form.requestSubmit(submitter);
    field.remove();
  };

  document.addEventListener("submit", (event) => {
    const { target: form, submitter } = event;
    if (!submitter?.dataset.question || form.elements.namedItem("confirmed")) return;
    event.preventDefault();
    asked = { form, submitter };
    question.textContent = submitter.dataset.question;
    warning.textContent = submitter.dataset.warning;
    confirm.textContent = submitter.dataset.label;
    dialog.showModal();
  });

  keep.addEventListener("click", () => dialog.close());
  confirm.addEventListener("click", () => {
    dialog.close();
    send(asked);
  });
})();
