//! The Markdown documents against the repository: relative links, anchors, paths, glossary entries, and the runbook links
//! of the alerts.

mod markdown;

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
};

use dezky_sim::workspace;
use serde::Deserialize;

use self::markdown::Document;

/// Directories that hold no documents of the repository.
const SKIPPED: [&str; 3] = [".git", ".dev", "target"];
/// Code spans that begin like this are relative to their document's directory.
const RELATIVE: [&str; 3] = ["src/", "tests/", "benches/"];

/// A document and its path in the repository.
struct Page {
    path: PathBuf,
    document: Document,
}

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    annotations: Annotations,
}

#[derive(Deserialize)]
struct Annotations {
    runbook_url: String,
}

/// Template that `prometheus.yml` replaces with the absolute address of the runbook.
const RUNBOOK: &str = "{{ $externalLabels.dezky_runbook }}";

fn read(path: &Path) -> String {
    let path = workspace::root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn pages() -> Vec<Page> {
    let mut found = Vec::new();
    collect(Path::new(""), &mut found);
    let pages: Vec<Page> = found
        .into_iter()
        .map(|path| Page {
            document: Document::parse(&read(&path)),
            path,
        })
        .collect();
    assert!(pages.len() > 5, "the documents are found");
    pages
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(workspace::root().join(directory)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        let path = directory.join(&name);
        if entry.file_type().unwrap().is_dir() {
            if !SKIPPED.iter().any(|skipped| name == *skipped) {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// The entries of the repository's top directory, of which a repository path begins with one.
fn top_entries() -> BTreeSet<String> {
    let entries = fs::read_dir(workspace::root()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| !SKIPPED.contains(&name.as_str()))
        .collect()
}

/// `path` without `.` and `..`; `None` if it leaves the repository.
fn normalized(path: &Path) -> Option<PathBuf> {
    let mut normalized = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                if !normalized.pop() {
                    return None;
                }
            }
            Component::Normal(name) => normalized.push(name),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(normalized)
}

/// The problem with a link in the document at `from`, if any.
fn broken(from: &Path, target: &str) -> Option<String> {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() {
        from.to_owned()
    } else {
        let Some(path) = normalized(&from.with_file_name(file)) else {
            return Some(format!("{target} leaves the repository"));
        };
        path
    };
    if !workspace::root().join(&path).exists() {
        return Some(format!("{target} does not exist"));
    }
    if anchor.is_empty() {
        return None;
    }
    let has_anchor = Document::parse(&read(&path)).anchors.contains(anchor);
    (!has_anchor).then(|| format!("{target} has no such heading"))
}

/// The repository path that a code span names; `None` if the span is no path. A placeholder such as `<name>` or `{slug}`
/// stands for any name: then only its directory is checked.
fn repository_path(span: &str, from: &Path, top: &BTreeSet<String>) -> Option<PathBuf> {
    let is_path = |character: char| {
        character.is_ascii_alphanumeric() || matches!(character, '/' | '.' | '_' | '-' | '<' | '>')
    };
    if !span.chars().all(is_path) {
        return None;
    }
    let span = match span.split_once('<') {
        Some((before, _)) => before.rsplit_once('/')?.0,
        None => span,
    };
    if RELATIVE.iter().any(|start| span.starts_with(start)) {
        return Some(from.with_file_name(span));
    }
    let first = span.split('/').next()?;
    let is_nested = span.contains('/') && top.contains(first);
    let is_top_file = !span.contains('/') && is_file_name(span);
    (is_nested || is_top_file).then(|| PathBuf::from(span))
}

/// Whether a code span without a directory is meant as a file in the root: `docker-compose.yml`, `.env.example`.
fn is_file_name(span: &str) -> bool {
    let ends = [".md", ".toml", ".yml", ".rs", ".env.example"];
    ends.iter().any(|end| span.ends_with(end)) && span.len() > 3
}

fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_relative_link_and_anchor_resolves() {
    let mut problems = Vec::new();
    let mut checked = 0;
    for page in pages() {
        for link in &page.document.links {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            checked += 1;
            if let Some(problem) = broken(&page.path, link) {
                problems.push(format!("{}: {problem}", page.path.display()));
            }
        }
    }

    assert_none(&problems);
    assert!(checked > 20, "{checked} links are found");
}

#[test]
fn every_repository_path_in_a_document_exists() {
    let top = top_entries();
    let mut problems = Vec::new();
    let mut checked = 0;
    for page in pages() {
        for span in &page.document.code_spans {
            let Some(path) = repository_path(span, &page.path, &top) else {
                continue;
            };
            checked += 1;
            if !workspace::root().join(&path).exists() {
                problems.push(format!("{}: no {span}", page.path.display()));
            }
        }
    }

    assert_none(&problems);
    assert!(checked > 50, "{checked} paths are found");
}

#[test]
fn every_glossary_entry_names_an_identifier_of_its_file() {
    let mut problems = Vec::new();
    let mut checked = 0;
    for page in pages() {
        for [identifier, file] in &page.document.glossary {
            checked += 1;
            let path = workspace::root().join(file);
            let source = fs::read_to_string(path).unwrap_or_default();
            let mut words = source.split(|character: char| !is_identifier(character));
            if !words.any(|word| word == identifier) {
                problems.push(format!(
                    "{}: no {identifier} in {file}",
                    page.path.display()
                ));
            }
        }
    }

    assert_none(&problems);
    assert!(checked > 20, "{checked} entries are found");
}

fn is_identifier(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[test]
fn every_alert_links_to_an_entry_of_the_runbook() {
    let rules: Rules = serde_saphyr::from_str(&read(Path::new(".ops/alerts.yml"))).unwrap();
    let rules: Vec<Rule> = rules
        .groups
        .into_iter()
        .flat_map(|group| group.rules)
        .collect();

    let problems: Vec<String> = rules
        .iter()
        // The links are relative to the root, as if written in a document there.
        .map(|rule| {
            rule.annotations
                .runbook_url
                .replace(RUNBOOK, ".ops/runbook.md")
        })
        .filter_map(|link| broken(Path::new("README.md"), &link))
        .collect();

    assert_none(&problems);
    assert!(!rules.is_empty());
    assert!(
        rules
            .iter()
            .all(|rule| rule.annotations.runbook_url.contains('#'))
    );
}

#[test]
fn every_panel_named_in_a_document_exists_on_the_dashboard() {
    let dashboard = read(Path::new(".ops/grafana-dashboard.json"));
    let mut problems = Vec::new();
    let mut checked = 0;
    for page in pages() {
        let text = read(&page.path);
        for after in text.split("panel \"").skip(1) {
            let title = after.split('"').next().unwrap();
            checked += 1;
            if !dashboard.contains(&format!("\"title\": \"{title}\"")) {
                problems.push(format!("{}: no panel {title}", page.path.display()));
            }
        }
    }

    assert_none(&problems);
    assert!(checked > 2, "{checked} panels are named");
}

#[test]
fn every_panel_of_the_dashboard_has_a_description() {
    let dashboard = read(Path::new(".ops/grafana-dashboard.json"));
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let panels: Vec<_> = panels.filter(|panel| panel["type"] != "row").collect();

    let problems = panels
        .iter()
        .filter(|panel| panel["description"].as_str().is_none_or(str::is_empty));
    let problems: Vec<String> = problems.map(|panel| panel["title"].to_string()).collect();

    assert_none(&problems);
    assert!(panels.len() > 20, "{} panels", panels.len());
}

#[test]
fn a_code_span_is_a_path_only_if_it_looks_like_one() {
    let top = BTreeSet::from(["api".to_owned(), ".ops".to_owned()]);
    let path = |span| repository_path(span, Path::new("worker/README.md"), &top);

    assert_eq!(path("api/src/main.rs"), Some("api/src/main.rs".into()));
    assert_eq!(path("api/src/<name>.rs"), Some("api/src".into()));
    assert_eq!(path("src/engine.rs"), Some("worker/src/engine.rs".into()));
    assert_eq!(path(".ops/alerts.yml"), Some(".ops/alerts.yml".into()));
    assert_eq!(
        path("docker-compose.yml"),
        Some("docker-compose.yml".into())
    );
    for other in [
        "/tenants/{slug}",
        "GET /jobs",
        "a/b",
        "api",
        "application/json",
        ".dev/logs",
    ] {
        assert_eq!(path(other), None, "{other}");
    }
}
