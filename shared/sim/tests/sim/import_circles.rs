//! Layering of every crate: imports between modules form no circle. A module and its own children may import each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use dezky_sim::workspace;

/// Source folders of the crates.
const CRATES: [&str; 5] = [
    "api/src",
    "worker/src",
    "shared/src",
    "shared/upstreams/src",
    "shared/sim/src",
];
/// Roots of paths within a crate.
const ROOTS: [&str; 3] = ["crate::", "super::", "self::"];

/// The imported modules of each module. Modules are named by their path below the crate; its root has an empty one.
type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn modules_of_a_crate_import_each_other_in_no_circle() {
    let mut circular = Vec::new();
    for source in CRATES {
        let mut sources = BTreeMap::new();
        collect(&workspace::root().join(source), "", &mut sources);
        assert!(sources.len() > 10, "{source} was not found");
        let found = circular_imports(imports_of(&sources));
        circular.extend(found.into_iter().map(|found| format!("{source}: {found}")));
    }

    assert!(
        circular.is_empty(),
        "move the shared item to a module of its own:\n{}",
        circular.join("\n")
    );
}

#[test]
fn a_circle_is_found_between_siblings_and_not_with_a_parent() {
    let sources = |texts: [(&str, &str); 4]| {
        let owned = texts.map(|(module, text)| (module.to_owned(), text.to_owned()));
        circular_imports(imports_of(&owned.into()))
    };
    let parent = "use self::{b::B, c::{self, C}};";

    let none = sources([
        ("a", parent),
        ("a::b", "use super::{A, c::C as D};"),
        ("a::c", "use crate::{a, d::*};"),
        (
            "d",
            "// crate::a::b\n#[cfg(test)]\nmod tests { use crate::a; }",
        ),
    ]);
    let circle = sources([
        ("a", parent),
        ("a::b", "fn f(c: super::c::C) {}"),
        ("a::c", "use super::{\n    super::d::D, b::B};"),
        ("d", ""),
    ]);

    assert_eq!(none, Vec::<String>::new());
    assert_eq!(circle, ["a::b imports a::c", "a::c imports a::b"]);
}

/// The sources below `folder`, by module. Programs and files of tests are left out.
fn collect(folder: &Path, parent: &str, sources: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let module = match (parent, name) {
            (_, "main" | "bin" | "tests") => continue,
            ("", "lib") => String::new(),
            ("", name) => name.to_owned(),
            (parent, name) => format!("{parent}::{name}"),
        };
        if path.is_dir() {
            collect(&path, &module, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.insert(module, fs::read_to_string(&path).unwrap());
        }
    }
}

fn imports_of(sources: &BTreeMap<String, String>) -> Imports {
    let imported = |module: &str, text: &str| {
        let paths = paths_in(text).into_iter();
        let imported = paths.map(|path| imported_module(module, &path, sources));
        let imported =
            imported.filter(|other| !contains(module, other) && !contains(other, module));
        imported.collect()
    };
    sources
        .iter()
        .map(|(module, text)| (module.clone(), imported(module, text)))
        .collect()
}

/// Whether `inner` is `outer` or a module within it.
fn contains(outer: &str, inner: &str) -> bool {
    let rest = inner.strip_prefix(outer);
    outer.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The module that holds the item at `path`, as `module` names it.
fn imported_module(module: &str, path: &str, sources: &BTreeMap<String, String>) -> String {
    let mut found: Vec<&str> = Vec::new();
    if !path.starts_with("crate::") {
        found.extend(module.split("::"));
    }
    for segment in path.split("::") {
        match segment {
            "" | "crate" | "self" => {}
            "super" => {
                found.pop();
            }
            segment => {
                found.push(segment);
                if !sources.contains_key(&found.join("::")) {
                    found.pop();
                    break;
                }
            }
        }
    }
    found.join("::")
}

/// Every path in the code of `text`, without that of its tests, that begins at the crate or at the module itself.
fn paths_in(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = code.lines().map(|line| line.split("//").next().unwrap());
    let code = lines.collect::<Vec<_>>().join("\n");
    let mut paths = Vec::new();
    let mut rest = code.as_str();
    while let Some(start) = next_root(rest) {
        rest = expand("", &rest[start..], &mut paths);
    }
    paths
}

/// Start of the next path.
fn next_root(code: &str) -> Option<usize> {
    let is_start = |start: &usize| {
        let before = code[..*start].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || "_:".contains(before))
    };
    let first = |root: &&str| {
        let mut starts = code.match_indices(*root).map(|(start, _)| start);
        starts.find(is_start)
    };
    ROOTS.iter().filter_map(first).min()
}

/// Adds the paths of the import tree at the beginning of `code`, each after `prefix`. Returns what follows the tree.
fn expand<'a>(prefix: &str, code: &'a str, paths: &mut Vec<String>) -> &'a str {
    let is_path = |character: char| character.is_alphanumeric() || "_:".contains(character);
    let end = code.find(|character| !is_path(character));
    let (path, rest) = code.split_at(end.unwrap_or(code.len()));
    let path = format!("{prefix}{path}");
    let Some(mut rest) = rest.strip_prefix('{').filter(|_| path.ends_with("::")) else {
        paths.push(path);
        return rest;
    };
    loop {
        rest = rest.trim_start_matches(|it: char| it.is_whitespace() || it == ',');
        if let Some(after) = rest.strip_prefix('}') {
            return after;
        }
        if rest.is_empty() {
            return rest;
        }
        let after = expand(&path, rest, paths);
        // An alias or a star.
        rest = &after[after.find([',', '}']).unwrap_or(after.len())..];
    }
}

/// The imports of modules that import themselves by way of others, and of those in between.
fn circular_imports(mut imports: Imports) -> Vec<String> {
    loop {
        let before = imports.len();
        let importing: BTreeSet<String> = imports.keys().cloned().collect();
        imports.retain(|_, imported| {
            imported.retain(|module| importing.contains(module));
            !imported.is_empty()
        });
        let imported: BTreeSet<String> = imports.values().flatten().cloned().collect();
        imports.retain(|module, _| imported.contains(module));
        if imports.len() == before {
            break;
        }
    }
    let line = |(module, imported): (&String, &BTreeSet<String>)| {
        let imported = imported.iter();
        let lines = imported.map(|other| format!("{module} imports {other}"));
        lines.collect::<Vec<_>>()
    };
    imports.iter().flat_map(line).collect()
}
