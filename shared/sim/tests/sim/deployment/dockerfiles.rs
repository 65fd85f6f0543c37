//! The Dockerfiles, and `.dockerignore`, which limits their build context.

use std::collections::BTreeSet;

use super::{manifest, members, read};

/// Dockerfiles and the binary that each image runs.
const IMAGES: [(&str, &str); 3] = [
    ("api/Dockerfile", "dezky-api"),
    ("worker/Dockerfile", "dezky-worker"),
    ("shared/sim/Dockerfile", "dezky-sim"),
];

/// An instruction and its arguments.
type Instruction = (String, String);

fn instructions(path: &str) -> Vec<Instruction> {
    let lines: Vec<_> = read(path)
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(str::to_owned)
        .collect();
    let text = lines.join("\n").replace("\\\n", " ");
    text.lines()
        .map(|line| {
            let (instruction, arguments) = line.split_once(' ').unwrap();
            (instruction.to_owned(), arguments.to_owned())
        })
        .collect()
}

/// Stages of a Dockerfile: the build, and the image.
fn stages(path: &str) -> (Vec<Instruction>, Vec<Instruction>) {
    let mut build = instructions(path);
    let last = build.iter().rposition(|(name, _)| name == "FROM").unwrap();
    let image = build.split_off(last);
    (build, image)
}

/// Arguments of all instructions of one kind.
fn all<'stage>(stage: &'stage [Instruction], name: &str) -> Vec<&'stage str> {
    let instructions = stage.iter().filter(|(instruction, _)| instruction == name);
    instructions
        .map(|(_, arguments)| arguments.as_str())
        .collect()
}

/// Paths that a stage copies from the context.
fn copied(stage: &[Instruction]) -> BTreeSet<String> {
    let copies = all(stage, "COPY").into_iter();
    copies
        .filter(|copy| !copy.starts_with("--from="))
        .flat_map(|copy| {
            let mut words: Vec<_> = copy.split(' ').map(str::to_owned).collect();
            words.pop();
            words
        })
        .collect()
}

/// Paths that every build needs: the workspace's own files, and the directories of its members.
fn needed() -> BTreeSet<String> {
    let members = members();
    let mut needed: BTreeSet<_> = members
        .iter()
        .map(|member| member.split('/').next().unwrap().to_owned())
        .collect();
    needed.extend([".cargo", "Cargo.toml", "Cargo.lock"].map(str::to_owned));
    needed
}

#[test]
fn images_are_built_with_the_workspaces_rust_version() {
    let rust = manifest("rust-version");

    for (path, _) in IMAGES {
        let (build, image) = stages(path);
        assert_eq!(
            all(&build, "FROM"),
            [format!("rust:{rust}-bookworm AS build")],
            "{path}"
        );
        // The same Debian release, because the binary requires its libc.
        assert_eq!(all(&image, "FROM"), ["debian:bookworm-slim"], "{path}");
    }
}

#[test]
fn builds_copy_every_workspace_member_and_compile_one_binary() {
    for (path, binary) in IMAGES {
        let (build, _) = stages(path);

        let run = all(&build, "RUN").join("\n");

        assert_eq!(copied(&build), needed(), "{path}");
        assert!(
            run.contains(&format!("--package {binary} --bin {binary} ")),
            "{path}"
        );
        assert!(run.contains("--locked"), "{path}");
    }
}

#[test]
fn images_contain_one_binary_and_do_not_run_as_root() {
    for (path, binary) in IMAGES {
        let (_, image) = stages(path);

        let user = all(&image, "USER");

        assert_eq!(
            all(&image, "COPY"),
            [format!(
                "--from=build /usr/local/bin/{binary} /usr/local/bin/"
            )],
            "{path}"
        );
        assert_eq!(all(&image, "ENTRYPOINT"), [format!("[\"{binary}\"]")]);
        assert_eq!(all(&image, "STOPSIGNAL"), ["SIGTERM"], "{path}");
        // A numeric user, which Kubernetes can verify not to be root.
        assert_eq!(user, ["10001:10001"], "{path}");
        // Build arguments and variables would be stored in the image.
        assert!(all(&image, "ENV").is_empty() && all(&image, "ARG").is_empty());
    }
}

#[test]
fn the_context_contains_the_copied_files_without_builds_data_and_secrets() {
    let sources = ["api/src/lib.rs", "shared/sim/Cargo.toml", "worker/src/jobs"];
    let others = [
        ".git/config",
        ".dev/keys/dezky-portal.pem",
        ".env",
        ".env.example",
        "target/release/dezky-api",
        "README.md",
        "api/target/debug",
        "api/.env",
        "shared/sim/.env.local",
        "shared/sim/.dev/mongodb",
    ];

    for path in needed().iter().map(String::as_str).chain(sources) {
        assert!(!is_ignored(path), "{path} is needed");
    }
    for path in others {
        assert!(is_ignored(path), "{path} would be sent");
    }
}

/// Whether `.dockerignore` excludes a path: the last matching pattern decides.
fn is_ignored(path: &str) -> bool {
    let mut ignored = false;
    for pattern in read(".dockerignore").lines() {
        if pattern.starts_with('#') || pattern.is_empty() {
            continue;
        }
        let (pattern, verdict) = match pattern.strip_prefix('!') {
            Some(pattern) => (pattern, false),
            None => (pattern, true),
        };
        if fits(pattern, path) {
            ignored = verdict;
        }
    }
    ignored
}

/// Whether a pattern matches a path or a directory above it. Supports only the forms in use: a name at the top of the
/// context or, after `**/`, anywhere, with an optional star at the end.
fn fits(pattern: &str, path: &str) -> bool {
    let mut names = path.split('/');
    let fits = |pattern: &str, name: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    match pattern.strip_prefix("**/") {
        Some(anywhere) => names.any(|name| fits(anywhere, name)),
        None => names.next().is_some_and(|top| fits(pattern, top)),
    }
}
