//! `cargo dev pictures`: pictures of the operators' console, taken of a system with demo data and three incidents.
//!
//! The system's data is its own, so that the pictures show nothing of an earlier `cargo dev up`.

use std::{fs, path::Path, process::Stdio};

use anyhow::{Context as _, bail, ensure};
use dezky_sim::{
    callers::{Caller, mint},
    demo,
    tools::{BrowserTools, browser_tools},
    workspace,
};
use serde::Deserialize;
use serde_json::json;
use tokio::{process::Command, task::spawn_blocking};

use super::{
    stack::{Addresses, Stack},
    with_stack,
};
use crate::document::Section;

/// Section with the pictures.
const SECTION: Section = Section {
    document: ".ops/console.md",
    begin: "<!-- pictures: written by `cargo dev pictures` -->",
    end: "<!-- end of pictures -->",
};
/// Folder of the pictures, beside the document.
const FOLDER: &str = "pictures";
/// Takes the pictures.
const SCRIPT: (&str, &str) = ("pictures.mjs", include_str!("pictures.mjs"));

/// A picture, as the script reports it.
#[derive(Debug, Deserialize)]
struct Picture {
    file: String,
    title: String,
    caption: String,
}

pub(crate) async fn pictures() -> anyhow::Result<()> {
    let tools = spawn_blocking(browser_tools).await??;
    let data = tempfile::tempdir_in(workspace::dev())?;
    let taken = with_stack(async |stack, _| start_and_take(stack, &tools, data.path()).await);
    let Some(pictures) = taken.await? else {
        bail!("interrupted");
    };
    SECTION.write(&gallery(&pictures))?;
    println!("{} pictures; updated {}", pictures.len(), SECTION.document);
    Ok(())
}

async fn start_and_take(
    stack: &mut Stack,
    tools: &BrowserTools,
    data: &Path,
) -> anyhow::Result<Vec<Picture>> {
    let addresses = stack.start(data).await?;
    tokio::select! {
        pictures = take(&addresses, tools) => pictures,
        ended = stack.first_end() => Err(ended),
    }
}

/// Creates the demo data, and replaces the pictures in the folder.
async fn take(addresses: &Addresses, tools: &BrowserTools) -> anyhow::Result<Vec<Picture>> {
    let Addresses {
        api,
        control,
        database,
        ..
    } = addresses;
    println!("\nThe demo tenant:");
    let say = |line: &str| println!("  {line}");
    demo::provision(api, control, Some(database), say).await?;

    let folder = workspace::root()
        .join(SECTION.document)
        .with_file_name(FOLDER);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir(&folder)?;
    let world = json!({
        "origin": api,
        "control": control,
        "token": mint(control, Caller::Operator, 1).await?,
        "folder": folder,
    });
    let scripts = tempfile::tempdir()?;
    let command = tools.command(scripts.path(), &[SCRIPT])?;
    let ended = Command::from(command)
        .arg(world.to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    ensure!(
        ended.status.success(),
        "the pictures cannot be taken: {}",
        String::from_utf8_lossy(&ended.stderr)
    );
    let lines = String::from_utf8(ended.stdout)?;
    let pictures = lines
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()));
    pictures.collect()
}

/// The section of the document.
fn gallery(pictures: &[Picture]) -> String {
    let pictures = pictures.iter().map(|picture| {
        let Picture {
            file,
            title,
            caption,
        } = picture;
        format!("### {title}\n\n{caption}\n\n![{title}]({FOLDER}/{file})")
    });
    pictures.collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_picture_has_a_heading_and_a_caption() {
        let picture = Picture {
            file: "jobs.png".to_owned(),
            title: "Jobs".to_owned(),
            caption: "All jobs, newest first.".to_owned(),
        };

        let gallery = gallery(&[picture]);

        assert_eq!(
            gallery,
            "### Jobs\n\nAll jobs, newest first.\n\n![Jobs](pictures/jobs.png)"
        );
    }

    #[test]
    fn the_document_has_the_section() {
        let document = workspace::root().join(SECTION.document);

        let text = fs::read_to_string(document).unwrap();

        assert!(text.contains(SECTION.begin) && text.contains(SECTION.end));
    }
}
