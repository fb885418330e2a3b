//! The modules of a crate, and what a name means in each.

use std::collections::{BTreeMap, BTreeSet};

use syn::{Attribute, Ident, Item, ItemMacro, Meta, UseTree, Visibility, punctuated::Punctuated};

/// A path from the crate's root (`crate`, …) or from that of another crate.
pub(crate) type Names = Vec<String>;

pub(crate) struct Crate {
    /// By their path, which begins with `crate`.
    pub(crate) modules: BTreeMap<Names, Module>,
}

pub(crate) struct Module {
    /// The conditions under which it is there.
    pub(crate) cfgs: Vec<Attribute>,
    pub(crate) items: Vec<Item>,
    pub(crate) uses: Vec<Use>,
    defined: BTreeSet<String>,
}

/// One name that a `use` brings in.
pub(crate) struct Use {
    /// `*` for all.
    pub(crate) name: String,
    pub(crate) target: Names,
    pub(crate) is_public: bool,
    pub(crate) cfgs: Vec<Attribute>,
}

impl Crate {
    pub(crate) fn read(read: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut this = Self { modules: BTreeMap::new() };
        let text = read("lib.rs").expect("lib.rs");
        this.add_file(read, vec!["crate".to_owned()], &text, Vec::new());
        this
    }

    fn add_file(
        &mut self,
        read: &dyn Fn(&str) -> Option<String>,
        path: Names,
        text: &str,
        mut cfgs: Vec<Attribute>,
    ) {
        let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        cfgs.extend(cfgs_of(&file.attrs));
        self.add(read, path, file.items, cfgs);
    }

    fn add(
        &mut self,
        read: &dyn Fn(&str) -> Option<String>,
        path: Names,
        items: Vec<Item>,
        cfgs: Vec<Attribute>,
    ) {
        let mut module =
            Module { cfgs, items: Vec::new(), uses: Vec::new(), defined: BTreeSet::new() };
        for mut item in items.into_iter().flat_map(looked_into) {
            let own = cfgs_of(attributes(&mut item));
            if !own.iter().all(is_possible) {
                continue;
            }
            match &item {
                Item::Use(item) => {
                    let is_public = matches!(item.vis, Visibility::Public(_));
                    for (name, target) in flat(&item.tree) {
                        module.uses.push(Use { name, target, is_public, cfgs: own.clone() });
                    }
                    continue;
                }
                Item::Mod(inner) => {
                    let below = [&path[..], &[inner.ident.to_string()]].concat();
                    let cfgs = [&module.cfgs[..], &own].concat();
                    if let Some((_, items)) = &inner.content {
                        self.add(read, below, items.clone(), cfgs);
                    } else {
                        let is_elsewhere = inner.attrs.iter().any(|a| a.path().is_ident("path"));
                        assert!(!is_elsewhere, "{below:?} has a #[path]");
                        let file = below[1..].join("/");
                        let text =
                            read(&format!("{file}.rs")).or_else(|| read(&format!("{file}/mod.rs")));
                        let text = text.unwrap_or_else(|| panic!("{below:?} has no file"));
                        self.add_file(read, below, &text, cfgs);
                    }
                }
                _ => {}
            }
            if let Some(name) = ident(&item) {
                let is_new = module.defined.insert(name.to_string());
                assert!(is_new || !is_public(&item), "{name} has more than one definition");
            }
            module.items.push(item);
        }
        self.modules.insert(path, module);
    }

    /// Where a path that is written in a module leads. The crate's own begin with `crate`.
    pub(crate) fn resolve(&self, module: &[String], path: &[String]) -> Names {
        let (first, rest) = path.split_first().expect("a path has a name");
        let here = &self.modules[module];
        let whole = match first.as_str() {
            "crate" => path.to_vec(),
            "self" => [module, rest].concat(),
            "super" => {
                let above = &module[..module.len() - 1];
                return self.resolve(above, &[&["self".to_owned()], rest].concat());
            }
            name if here.defined.contains(name) => [module, path].concat(),
            name => match here.uses.iter().find(|used| used.name == name) {
                // `use http::{self, …}`: another crate of the same name.
                Some(used) if used.target[0] == name => return [&used.target[..], rest].concat(),
                Some(used) => {
                    let target = self.resolve(module, &used.target);
                    return self.resolve(module, &[&target[..], rest].concat());
                }
                None => return path.to_vec(),
            },
        };
        self.defined_at(whole)
    }

    /// Follows the re-exports between a path of this crate and the item's definition.
    fn defined_at(&self, path: Names) -> Names {
        for length in (1..path.len()).rev() {
            let (module, rest) = path.split_at(length);
            if let Some(found) = self.modules.get(module) {
                let is_here = found.defined.contains(&rest[0]) || rest[0] == "self";
                return if is_here { path } else { self.resolve(module, rest) };
            }
        }
        path
    }
}

/// The items that a macro makes, of those macros whose items stand in it as they are.
fn looked_into(item: Item) -> Vec<Item> {
    let Item::Macro(ItemMacro { ident, mac, attrs, .. }) = &item else { return vec![item] };
    if mac.path.is_ident("macro_rules") {
        let is_exported = attrs.iter().any(|attribute| attribute.path().is_ident("macro_export"));
        assert!(!is_exported, "an exported macro cannot be listed: {ident:?}");
        return Vec::new();
    }
    let name = mac.path.segments.last().map(|segment| segment.ident.to_string());
    assert_eq!(name.as_deref(), Some("pin_project"), "a macro that cannot be looked into");
    syn::parse2::<syn::File>(mac.tokens.clone()).expect("items in pin_project").items
}

/// The names of a `use`, each with its path.
fn flat(tree: &UseTree) -> Vec<(String, Names)> {
    match tree {
        UseTree::Path(path) => {
            let begin = path.ident.to_string();
            let below = flat(&path.tree).into_iter().map(|(name, rest)| {
                let is_self = rest == ["self"];
                let name = if name == "self" { begin.clone() } else { name };
                let rest = if is_self { Vec::new() } else { rest };
                (name, [vec![begin.clone()], rest].concat())
            });
            below.collect()
        }
        UseTree::Name(name) => vec![(name.ident.to_string(), vec![name.ident.to_string()])],
        UseTree::Rename(name) => vec![(name.rename.to_string(), vec![name.ident.to_string()])],
        UseTree::Glob(_) => vec![("*".to_owned(), Vec::new())],
        UseTree::Group(group) => group.items.iter().flat_map(flat).collect(),
    }
}

pub(crate) fn cfgs_of(attributes: &[Attribute]) -> Vec<Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).cloned().collect()
}

/// Whether a host's build can have it: not what is there for tests and documentation only.
pub(crate) fn is_possible(cfg: &Attribute) -> bool {
    fn holds(condition: &Meta) -> bool {
        let inner = || match condition {
            Meta::List(list) => list
                .parse_args_with(Punctuated::<Meta, syn::Token![,]>::parse_terminated)
                .expect("conditions"),
            _ => Punctuated::new(),
        };
        let name = condition.path().get_ident().map(ToString::to_string).unwrap_or_default();
        match name.as_str() {
            "test" | "doctest" | "doc" | "docsrs" | "fuzzing" => false,
            "all" => inner().iter().all(holds),
            "any" => inner().iter().any(holds),
            _ => true,
        }
    }
    cfg.parse_args::<Meta>().is_ok_and(|condition| holds(&condition))
}

pub(crate) fn ident(item: &Item) -> Option<&Ident> {
    Some(match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Mod(item) => &item.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    })
}

/// As a re-export does.
pub(crate) fn rename(item: &mut Item, name: Ident) {
    let ident = match item {
        Item::Const(item) => &mut item.ident,
        Item::Enum(item) => &mut item.ident,
        Item::Fn(item) => &mut item.sig.ident,
        Item::Static(item) => &mut item.ident,
        Item::Struct(item) => &mut item.ident,
        Item::Trait(item) => &mut item.ident,
        Item::TraitAlias(item) => &mut item.ident,
        Item::Type(item) => &mut item.ident,
        Item::Union(item) => &mut item.ident,
        _ => return,
    };
    *ident = name;
}

pub(crate) fn is_public(item: &Item) -> bool {
    let visibility = match item {
        Item::Const(item) => &item.vis,
        Item::Enum(item) => &item.vis,
        Item::Fn(item) => &item.vis,
        Item::Mod(item) => &item.vis,
        Item::Static(item) => &item.vis,
        Item::Struct(item) => &item.vis,
        Item::Trait(item) => &item.vis,
        Item::TraitAlias(item) => &item.vis,
        Item::Type(item) => &item.vis,
        Item::Union(item) => &item.vis,
        _ => return false,
    };
    matches!(visibility, Visibility::Public(_))
}

pub(crate) fn attributes(item: &mut Item) -> &mut Vec<Attribute> {
    match item {
        Item::Const(item) => &mut item.attrs,
        Item::Enum(item) => &mut item.attrs,
        Item::ExternCrate(item) => &mut item.attrs,
        Item::Fn(item) => &mut item.attrs,
        Item::Impl(item) => &mut item.attrs,
        Item::Mod(item) => &mut item.attrs,
        Item::Static(item) => &mut item.attrs,
        Item::Struct(item) => &mut item.attrs,
        Item::Trait(item) => &mut item.attrs,
        Item::TraitAlias(item) => &mut item.attrs,
        Item::Type(item) => &mut item.attrs,
        Item::Union(item) => &mut item.attrs,
        Item::Use(item) => &mut item.attrs,
        _ => panic!("an unknown kind of item"),
    }
}
