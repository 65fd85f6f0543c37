//! The parts of Markdown that the documents use: headings, links, code spans, tables, fenced code.

use std::collections::{BTreeMap, BTreeSet};

/// References of a document, and its anchors.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// Anchors of its headings, in GitHub's form.
    pub(super) anchors: BTreeSet<String>,
    /// Targets of its links.
    pub(super) links: Vec<String>,
    /// Contents of its code spans.
    pub(super) code_spans: Vec<String>,
    /// Rows of tables with the columns `term`, `type` and `file`: identifier and file.
    pub(super) glossary: Vec<[String; 2]>,
}

impl Document {
    /// Parses a document. Fenced code is skipped.
    pub(super) fn parse(text: &str) -> Self {
        let mut document = Self::default();
        let mut times = BTreeMap::<String, usize>::new();
        let mut prose = String::new();
        let mut is_fenced = false;
        let mut is_glossary = false;
        for line in text.lines() {
            if line.trim_start().starts_with("```") {
                is_fenced = !is_fenced;
                continue;
            }
            if is_fenced {
                continue;
            }
            if let Some(heading) = heading(line) {
                let anchor = anchor(heading);
                let count = times.entry(anchor.clone()).or_default();
                document.anchors.insert(match *count {
                    0 => anchor,
                    count => format!("{anchor}-{count}"),
                });
                *count += 1;
            }
            if !line.starts_with('|') {
                is_glossary = false;
            } else if cells(line) == ["term", "type", "file"] {
                is_glossary = true;
            } else if is_glossary && let [_, identifier, file] = cells(line)[..] {
                let of_span =
                    |cell: &str| Some(cell.strip_prefix('`')?.strip_suffix('`')?.to_owned());
                let row = of_span(identifier).zip(of_span(file));
                document.glossary.extend(row.map(<[String; 2]>::from));
            }
            prose.push_str(line);
            // A span or link may contain a line break, which counts as a space.
            prose.push(if line.is_empty() { '\n' } else { ' ' });
        }
        for paragraph in prose.split('\n') {
            document.read_spans(paragraph);
        }
        document
    }

    fn read_spans(&mut self, paragraph: &str) {
        let mut outside = String::new();
        for (place, part) in paragraph.split('`').enumerate() {
            if place % 2 == 1 {
                self.code_spans.push(part.to_owned());
            } else {
                outside.push_str(part);
            }
        }
        for after in outside.split("](").skip(1) {
            let target = after.split(')').next().unwrap_or_default();
            self.links.push(target.to_owned());
        }
    }
}

/// Text of a heading.
fn heading(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    (text.len() < line.len()).then(|| text.strip_prefix(' '))?
}

/// Anchor of a heading: lower case, without punctuation, with hyphens for spaces.
fn anchor(heading: &str) -> String {
    let kept = heading
        .trim()
        .chars()
        .filter_map(|character| match character {
            ' ' => Some('-'),
            '-' | '_' => Some(character),
            _ => character.is_alphanumeric().then_some(character),
        });
    kept.flat_map(char::to_lowercase).collect()
}

/// Cells of a table row.
fn cells(line: &str) -> Vec<&str> {
    line.trim_matches(['|', ' '])
        .split('|')
        .map(str::trim)
        .collect()
}

#[test]
fn headings_links_spans_and_glossaries_are_parsed() {
    let text = "# The `A`, and B\n\nSee [x](../a.md#b) and `src/a.rs`\n\n```\n# no [y](z) `w`\n```\n\n# Twice\n# Twice\n\n\
                | term | type | file |\n| --- | --- | --- |\n| lease | `Lease` | `src/lease.rs` |\n";

    let document = Document::parse(text);

    let anchors = ["the-a-and-b", "twice", "twice-1"].map(str::to_owned);
    assert_eq!(document.anchors, BTreeSet::from(anchors));
    assert_eq!(document.links, ["../a.md#b"]);
    assert_eq!(
        document.code_spans,
        ["A", "src/a.rs", "Lease", "src/lease.rs"]
    );
    assert_eq!(
        document.glossary,
        [["Lease".to_owned(), "src/lease.rs".to_owned()]]
    );
}
