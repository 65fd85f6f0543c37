//! Documentation page: the OpenAPI document as HTML, without scripts.
//!
//! Pages of the usual viewers load their script from another origin, which could then act with the rights of the signed-in person.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;

/// Layout, which follows the reader's light or dark mode.
const STYLE: &str = "
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; }
nav a { margin-right: 1rem; }
summary { cursor: pointer; padding: .25rem 0; }
summary code { font-size: 1rem; }
details > div { border-left: 3px solid #8888; margin: .25rem 0 1rem .25rem; padding-left: 1rem; }
table { border-collapse: collapse; }
td, th { border-bottom: 1px solid #8884; padding: .25rem 1rem .25rem 0; text-align: left; vertical-align: top; }
pre { background: #8882; overflow-x: auto; padding: .5rem; }
";

/// Renders the page.
pub(super) fn render(document: &Value) -> String {
    let title = escaped(text(&document["info"]["title"]));
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><style>{STYLE}</style></head>\
         <body><h1>{title}</h1>{}<p><a href=\"openapi.json\">openapi.json</a></p><nav>",
        prose(&document["info"]["description"]),
    );
    let tags = operations_by_tag(document);
    for tag in tags.keys() {
        add(
            &mut page,
            format_args!("<a href=\"#{0}\">{0}</a>", escaped(tag)),
        );
    }
    page.push_str("<a href=\"#schemas\">schemas</a></nav>");
    for (tag, operations) in &tags {
        add(
            &mut page,
            format_args!("<h2 id=\"{0}\">{0}</h2>", escaped(tag)),
        );
        for (method, path, operation) in operations {
            add_operation(&mut page, document, method, path, operation);
        }
    }
    page.push_str("<h2 id=\"schemas\">schemas</h2>");
    for (name, schema) in members(&document["components"]["schemas"]) {
        let (name, schema) = (escaped(name), json(schema));
        let details = format_args!(
            "<details id=\"schema-{name}\"><summary>{name}</summary><div>{schema}</div></details>"
        );
        add(&mut page, details);
    }
    page.push_str("</body></html>");
    page
}

/// Method, path and operation, by the first tag of the operation.
fn operations_by_tag(document: &Value) -> BTreeMap<&str, Vec<(&str, &str, &Value)>> {
    let mut tags: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for (path, item) in members(&document["paths"]) {
        for (method, operation) in members(item) {
            let operations = tags.entry(text(&operation["tags"][0])).or_default();
            operations.push((method.as_str(), path.as_str(), operation));
        }
    }
    tags
}

fn add_operation(page: &mut String, document: &Value, method: &str, path: &str, operation: &Value) {
    let id = escaped(text(&operation["operationId"]));
    let summary = escaped(text(&operation["summary"]));
    let line = format_args!(
        "<details id=\"{id}\"><summary><code>{} {}</code> {summary}</summary><div>{}",
        method.to_uppercase(),
        escaped(path),
        prose(&operation["description"]),
    );
    add(page, line);
    if let Some(parameters) = operation["parameters"].as_array() {
        page.push_str("<table><tr><th>parameter</th><th>in</th><th></th></tr>");
        for parameter in parameters {
            let row = format_args!(
                "<tr><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
                escaped(text(&parameter["name"])),
                escaped(text(&parameter["in"])),
                prose(&parameter["description"]),
            );
            add(page, row);
        }
        page.push_str("</table>");
    }
    add_content(page, "request", &operation["requestBody"]);
    for (status, response) in members(&operation["responses"]) {
        let response = resolved(document, response);
        let description = escaped(text(&response["description"])).replace('\n', "<br>");
        add(page, format_args!("<p>{status}: {description}</p>"));
        add_content(page, status, response);
    }
    page.push_str("</div></details>");
}

/// The media types of a body, each with its schema.
fn add_content(page: &mut String, of: &str, body: &Value) {
    for (media_type, content) in members(&body["content"]) {
        let (of, media_type) = (escaped(of), escaped(media_type));
        let line = format_args!("<p>{of}: <code>{media_type}</code> ");
        add(page, line);
        let schema = &content["schema"];
        let reference = [&schema["$ref"], &schema["allOf"][0]["$ref"]]
            .map(text)
            .concat();
        match reference.rsplit('/').next() {
            Some(name) if !name.is_empty() => {
                let name = escaped(name);
                add(
                    page,
                    format_args!("<a href=\"#schema-{name}\">{name}</a></p>"),
                );
            }
            _ => add(page, format_args!("</p>{}", json(schema))),
        }
    }
}

/// The component that a reference denotes, or the value itself.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let pointer = text(&value["$ref"]).strip_prefix('#');
    pointer
        .and_then(|pointer| document.pointer(pointer))
        .unwrap_or(value)
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Paragraphs of a description.
fn prose(description: &Value) -> String {
    let mut paragraphs = String::new();
    for text in text(description)
        .split("\n\n")
        .filter(|text| !text.is_empty())
    {
        add(&mut paragraphs, format_args!("<p>{}</p>", escaped(text)));
    }
    paragraphs
}

fn json(value: &Value) -> String {
    format!("<pre>{}</pre>", escaped(&format!("{value:#}")))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn add(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("writing to a string succeeds");
}
