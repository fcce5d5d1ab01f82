//! Which part of `src/` may use which: no arrow goes up, and neither the rooms nor the files have a circle.
//!
//! Read from the sources by `syn`: `use` trees and paths that begin with `crate`, `self`, `super` or a child module.
//! A name that a module re-exports counts as the file that defines it. Unit tests are left out: they may use anything.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};

/// Low to high. A room may use those before it; those of one line do not use each other.
const LAYERS: [&[&str]; 10] = [
    &["testing", "metrics"],
    &["config"],
    &["runtime"],
    &["avro"],
    &["kafka", "place"],
    &["pipeline", "sink"],
    &["web"],
    &["daemon"],
    &["command"],
    &["main"],
];

type Module = Vec<String>;

struct Source {
    module: Module,
    file: String,
    syntax: syn::File,
}

/// Every path that a file names, absolute, with whether it is only passed on (`pub use`).
#[derive(Default)]
struct Named {
    module: Module,
    children: BTreeSet<String>,
    used: BTreeSet<Module>,
    passed_on: BTreeMap<String, Module>,
}

impl Named {
    fn absolute(&self, path: &[String]) -> Option<Module> {
        let supers = path.iter().take_while(|s| *s == "super").count();
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([&self.module, &path[1..]].concat()),
            "super" => {
                let kept = self.module.len().checked_sub(supers)?;
                Some([&self.module[..kept], &path[supers..]].concat())
            }
            child if self.children.contains(child) => Some([&self.module[..], path].concat()),
            _ => None,
        }
    }

    fn leaves(tree: &UseTree, before: &[String], found: &mut Vec<(Module, String)>) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            UseTree::Path(path) => Self::leaves(&path.tree, &with(path.ident.to_string()), found),
            UseTree::Name(name) if name.ident == "self" => found.push((before.to_vec(), String::new())),
            UseTree::Name(name) => found.push((with(name.ident.to_string()), name.ident.to_string())),
            UseTree::Rename(name) => found.push((with(name.ident.to_string()), name.rename.to_string())),
            UseTree::Glob(_) => found.push((before.to_vec(), String::new())),
            UseTree::Group(group) => group.items.iter().for_each(|tree| Self::leaves(tree, before, found)),
        }
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|a| {
        a.path().is_ident("test")
            || a.path().is_ident("cfg") && a.parse_args::<syn::Path>().is_ok_and(|p| p.is_ident("test"))
    })
}

impl<'ast> Visit<'ast> for Named {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if is_test(&item.attrs) {
            return;
        }
        let mut leaves = Vec::new();
        Self::leaves(&item.tree, &[], &mut leaves);
        for (path, name) in leaves {
            let Some(path) = self.absolute(&path) else { continue };
            if matches!(item.vis, Visibility::Inherited) {
                self.used.insert(path);
            } else {
                self.passed_on.insert(name, path);
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if names.len() > 1
            && let Some(path) = self.absolute(&names)
        {
            self.used.insert(path);
        }
        visit::visit_path(self, path);
    }
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                walk(&entry, found);
            } else if entry.extension().is_some_and(|e| e == "rs") {
                found.push(entry);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    let read = |path: &PathBuf| {
        let file = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let mut module: Module = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        if module.last().is_some_and(|name| name == "mod") {
            module.pop();
        }
        let syntax = syn::parse_file(&std::fs::read_to_string(path).unwrap()).unwrap();
        Source { module, file, syntax }
    };
    files.iter().filter(|path| !path.ends_with("lib.rs") && !path.ends_with("tests.rs")).map(read).collect()
}

/// File → the files that it uses, by what defines a name, and by the module that it was taken from.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let sources = sources();
    let files: BTreeMap<&Module, &String> = sources.iter().map(|s| (&s.module, &s.file)).collect();
    let mut passed_on: BTreeMap<Module, Module> = BTreeMap::new();
    let mut used: Vec<(&String, BTreeSet<Module>)> = Vec::new();
    for source in &sources {
        let children = source.syntax.items.iter().filter_map(|item| match item {
            Item::Mod(module) => Some(module.ident.to_string()),
            _ => None,
        });
        let mut named = Named { module: source.module.clone(), children: children.collect(), ..Named::default() };
        // main.rs names the library by the package's name.
        if source.file == "main.rs" {
            named.module.clear();
        }
        named.visit_file(&source.syntax);
        passed_on.extend(named.passed_on.into_iter().map(|(name, to)| ([&source.module[..], &[name]].concat(), to)));
        used.push((&source.file, named.used));
    }
    let file_of = |mut path: Module| {
        // At most as many re-exports one after the other as anybody would write.
        for _ in 0..8 {
            let Some(end) = (1..=path.len())
                .rev()
                .find(|&n| passed_on.contains_key(&path[..n]) || files.contains_key(&path[..n].to_vec()))
            else {
                break;
            };
            match passed_on.get(&path[..end]) {
                Some(to) if !files.contains_key(&path[..end].to_vec()) => path = [&to[..], &path[end..]].concat(),
                _ => return files.get(&path[..end].to_vec()).map(|file| (*file).clone()),
            }
        }
        None
    };
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, paths) in used {
        let by_name =
            paths.iter().filter_map(|path| (1..=path.len()).rev().find_map(|n| files.get(&path[..n].to_vec())));
        let by_name: BTreeSet<String> = by_name.filter(|to| room(to) != room(file)).map(|to| (*to).clone()).collect();
        let to = paths.into_iter().filter_map(file_of).chain(by_name).filter(|to| to != file);
        arrows.insert(file.clone(), to.collect());
    }
    arrows
}

fn room(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

fn layer(file: &str) -> usize {
    let layer = LAYERS.iter().position(|rooms| rooms.contains(&room(file)));
    layer.unwrap_or_else(|| panic!("src/{file} is in no layer: give it a room that tests/layers.rs knows"))
}

/// A path from `from` back to itself, if there is one.
fn circle(from: &str, arrows: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut ways = vec![vec![from.to_owned()]];
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        for next in arrows.get(way.last().unwrap()).into_iter().flatten() {
            let further = [&way[..], std::slice::from_ref(next)].concat();
            if next == from {
                return Some(further);
            }
            if seen.insert(next.clone()) {
                ways.push(further);
            }
        }
    }
    None
}

#[test]
fn no_arrow_goes_up() {
    let mut up = Vec::new();
    for (from, targets) in arrows() {
        for to in targets.iter().filter(|to| room(to) != room(&from) && layer(to) >= layer(&from)) {
            up.push(format!("src/{from} uses src/{to}: {} is not below {}", room(to), room(&from)));
        }
    }
    assert!(up.is_empty(), "{} arrows go up:\n{}", up.len(), up.join("\n"));
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let arrows = arrows();
    let circles: Vec<String> =
        arrows.keys().filter_map(|file| circle(file, &arrows)).map(|way| way.join(" -> ")).collect();
    assert!(circles.is_empty(), "{} files are in circles:\n{}", circles.len(), circles.join("\n"));
}

#[test]
fn there_are_at_most_twelve_rooms() {
    let rooms: BTreeSet<String> =
        arrows().keys().map(|file| room(file).to_owned()).filter(|room| room != "main").collect();
    assert!(rooms.len() <= 12, "{rooms:?}");
}
