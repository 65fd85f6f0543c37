//! The Dockerfiles, and `.dockerignore`, which says what they may see.

use std::collections::BTreeSet;

use super::{manifest, members, read};

/// Each Dockerfile with the binary that its image runs.
const IMAGES: [(&str, &str); 3] = [
    ("api/Dockerfile", "dezky-api"),
    ("worker/Dockerfile", "dezky-worker"),
    ("shared/sim/Dockerfile", "dezky-sim"),
];

/// One instruction: `RUN`, and what it runs.
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

/// The stages of a Dockerfile: that in which it builds, and that which becomes the image.
fn stages(path: &str) -> (Vec<Instruction>, Vec<Instruction>) {
    let mut build = instructions(path);
    let last = build.iter().rposition(|(name, _)| name == "FROM").unwrap();
    let image = build.split_off(last);
    (build, image)
}

/// What the instructions of one kind say.
fn all<'stage>(stage: &'stage [Instruction], name: &str) -> Vec<&'stage str> {
    let instructions = stage.iter().filter(|(instruction, _)| instruction == name);
    instructions
        .map(|(_, arguments)| arguments.as_str())
        .collect()
}

/// What a stage copies from the context.
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

/// What every build needs: the workspace's own files, and the directories that its members lie in.
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
fn images_are_built_by_the_rust_that_the_workspace_asks_for() {
    let rust = manifest("rust-version");

    for (path, _) in IMAGES {
        let (build, image) = stages(path);
        assert_eq!(
            all(&build, "FROM"),
            [format!("rust:{rust}-bookworm AS build")],
            "{path}"
        );
        // The same Debian, because the binary needs its libc.
        assert_eq!(all(&image, "FROM"), ["debian:bookworm-slim"], "{path}");
    }
}

#[test]
fn builds_see_every_member_of_the_workspace_and_compile_one_binary() {
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
fn images_hold_one_binary_and_do_not_run_it_as_root() {
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
        // A number, by which Kubernetes too can tell that it is not root.
        assert_eq!(user, ["10001:10001"], "{path}");
        // Whatever is told to a build stays in its image.
        assert!(all(&image, "ENV").is_empty() && all(&image, "ARG").is_empty());
    }
}

#[test]
fn the_context_holds_what_is_copied_and_neither_builds_nor_data_nor_secrets() {
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

/// Whether `.dockerignore` keeps a path out of the context: the last pattern that fits it decides.
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

/// Whether a pattern fits a path or a directory above it. Only the two forms that we use: one name, at the top of the
/// context or, after `**/`, anywhere; and in it a star at the end.
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
