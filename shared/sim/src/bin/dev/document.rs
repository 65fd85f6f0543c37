//! Sections of Markdown documents that a command writes, each between two marker comments.

use std::{fs, process::Stdio, thread};

use anyhow::Context as _;
use dezky_shared::platform::clock;
use dezky_sim::workspace;
use tokio::process::Command;

/// A generated section. Text outside its markers is never changed.
pub(crate) struct Section {
    /// Path of the document in the repository.
    pub(crate) document: &'static str,
    pub(crate) begin: &'static str,
    pub(crate) end: &'static str,
}

impl Section {
    /// Replaces the contents of the section.
    pub(crate) fn write(&self, contents: &str) -> anyhow::Result<()> {
        let path = workspace::root().join(self.document);
        let before = fs::read_to_string(&path).with_context(|| self.document)?;
        let after = self.replaced(&before, contents);
        fs::write(&path, after.with_context(|| self.document)?)?;
        Ok(())
    }

    fn replaced(&self, text: &str, contents: &str) -> anyhow::Result<String> {
        let (before, rest) = text
            .split_once(self.begin)
            .with_context(|| format!("the marker {} is missing", self.begin))?;
        let (_, after) = rest
            .split_once(self.end)
            .with_context(|| format!("the marker {} is missing", self.end))?;
        let contents = contents.trim();
        Ok(format!(
            "{before}{}\n\n{contents}\n\n{}{after}",
            self.begin, self.end
        ))
    }
}

/// Date, build and machine of a measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Provenance {
    pub(crate) date: String,
    /// `git describe` of the checkout.
    pub(crate) build: String,
    pub(crate) cores: usize,
}

impl Provenance {
    /// Describes the checkout before it is built.
    pub(crate) async fn current() -> anyhow::Result<Self> {
        let output = Command::new("git")
            .args(["describe", "--always", "--dirty"])
            .current_dir(workspace::root())
            .stdin(Stdio::null())
            .output()
            .await;
        let build = match output {
            Ok(output) if output.status.success() => String::from_utf8(output.stdout)?,
            // Not a git checkout.
            _ => "unknown".to_owned(),
        };
        let now = clock::now().try_to_rfc3339_string()?;
        Ok(Self {
            date: now
                .chars()
                .take_while(|character| *character != 'T')
                .collect(),
            build: build.trim().to_owned(),
            cores: thread::available_parallelism()?.get(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTION: Section = Section {
        document: "README.md",
        begin: "<!-- begin -->",
        end: "<!-- end -->",
    };

    #[test]
    fn only_the_text_between_the_markers_is_replaced() {
        let text = "# Title\n\n<!-- begin -->\n\nold\n\n<!-- end -->\n\n## Next\n";

        let replaced = SECTION.replaced(text, "new\n").unwrap();

        assert_eq!(
            replaced,
            "# Title\n\n<!-- begin -->\n\nnew\n\n<!-- end -->\n\n## Next\n"
        );
        assert_eq!(SECTION.replaced(&replaced, "new").unwrap(), replaced);
    }

    #[test]
    fn a_missing_marker_is_an_error_that_names_it() {
        let no_begin = SECTION.replaced("text", "new").unwrap_err();
        let no_end = SECTION.replaced("<!-- begin -->", "new").unwrap_err();

        assert!(no_begin.to_string().contains("<!-- begin -->"));
        assert!(no_end.to_string().contains("<!-- end -->"));
    }
}
