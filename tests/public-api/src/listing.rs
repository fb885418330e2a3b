//! The walk from the root to all that can be reached, and the list of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    slice::from_ref,
};

use proc_macro2::Span;
use quote::{ToTokens, quote};
use syn::{
    Attribute, Ident, ImplItem, Item, ItemImpl, Path, parse_quote,
    visit_mut::{self, VisitMut},
};

use crate::{
    modules::{Crate, Names, attributes, ident, is_public, rename},
    tidy,
};

/// The list, and the names of the crates whose items are named in it.
pub(crate) fn list(source: &Crate) -> (String, Vec<String>) {
    let root = vec!["crate".to_owned()];
    let mut public = Public { source, modules: BTreeMap::new(), names: BTreeMap::new() };
    public.walk(&root, &root, &[]);

    let mut listing = Listing { public: &public, impls: BTreeMap::new(), crates: BTreeSet::new() };
    listing.collect_impls();
    let items = listing.module(&root, &[]);
    let parts: Vec<String> = items.iter().map(print).collect();
    (parts.join("\n"), listing.crates.into_iter().collect())
}

fn print(item: &Item) -> String {
    prettyplease::unparse(&parse_quote!(#item)).replace(tidy::PRIVATE, "..")
}

/// What can be reached.
struct Public<'a> {
    source: &'a Crate,
    /// By a module's path in public: its items' names there, each with the definition's path.
    modules: BTreeMap<Names, BTreeMap<String, Reached>>,
    /// By the definition's path, the path in public.
    names: BTreeMap<Names, Names>,
}

#[derive(Clone)]
struct Reached {
    definition: Names,
    cfgs: Vec<Attribute>,
}

impl Public<'_> {
    /// Takes in a module that is `public` to the world, and at `module` in the source.
    fn walk(&mut self, module: &[String], public: &[String], cfgs: &[Attribute]) {
        let is_new = self.names.insert(module.to_vec(), public.to_vec()).is_none();
        assert!(is_new, "{module:?} is public twice");
        self.modules.entry(public.to_vec()).or_default();
        self.take_all(module, public, cfgs);
    }

    fn take_all(&mut self, module: &[String], public: &[String], cfgs: &[Attribute]) {
        let here = &self.source.modules[module];
        for item in here.items.iter().filter(|item| is_public(item)) {
            let name = ident(item).expect("what is public has a name").to_string();
            self.take(&[module, from_ref(&name)].concat(), public, &name, cfgs);
        }
        for used in here.uses.iter().filter(|used| used.is_public) {
            let target = self.source.resolve(module, &used.target);
            let cfgs = [cfgs, &used.cfgs].concat();
            if used.name == "*" {
                assert!(target[0] == "crate", "all of another crate is public");
                self.take_all(&target, public, &cfgs);
            } else {
                self.take(&target, public, &used.name, &cfgs);
            }
        }
    }

    fn take(&mut self, definition: &[String], public: &[String], name: &str, cfgs: &[Attribute]) {
        let path = [public, &[name.to_owned()]].concat();
        let reached = Reached { definition: definition.to_vec(), cfgs: cfgs.to_vec() };
        self.modules.entry(public.to_vec()).or_default().insert(name.to_owned(), reached);
        if self.source.modules.contains_key(definition) {
            self.walk(definition, &path, cfgs);
        } else if definition[0] == "crate" {
            self.names.entry(definition.to_vec()).or_insert(path);
        }
    }

    /// The path in public of an item, or of what is in it.
    fn name(&self, path: &[String]) -> Option<Names> {
        let known = |length: &usize| self.names.contains_key(&path[..*length]);
        let length = (2..=path.len()).rev().find(known)?;
        Some([&self.names[&path[..length]], &path[length..]].concat())
    }

    /// The public item of this crate to which an impl belongs, if all that its head names is public.
    fn owner(&self, module: &[String], item: &ItemImpl) -> Option<Names> {
        let mut named = Named::default();
        named.visit_type_mut(&mut item.self_ty.clone());
        if let Some((path, ..)) = &mut item.trait_.clone() {
            named.visit_path_mut(path);
        }
        let all = named.paths.iter().map(|path| self.source.resolve(module, path));
        let ours: Vec<Names> = all.filter(|path| path[0] == "crate").collect();
        ours.iter().all(|path| self.name(path).is_some()).then(|| ours.first().cloned())?
    }

    fn definition(&self, path: &[String]) -> Option<&Item> {
        let (name, module) = path.split_last()?;
        let items = &self.source.modules.get(module)?.items;
        items.iter().find(|item| ident(item).is_some_and(|ident| ident == name))
    }
}

#[derive(Default)]
struct Named {
    paths: Vec<Names>,
}

impl VisitMut for Named {
    fn visit_path_mut(&mut self, path: &mut Path) {
        self.paths.push(path.segments.iter().map(|name| name.ident.to_string()).collect());
        visit_mut::visit_path_mut(self, path);
    }
}

struct Listing<'a> {
    public: &'a Public<'a>,
    /// By the definition they belong to.
    impls: BTreeMap<Names, Vec<ItemImpl>>,
    crates: BTreeSet<String>,
}

impl Listing<'_> {
    fn collect_impls(&mut self) {
        for (path, module) in &self.public.source.modules {
            for item in &module.items {
                let Item::Impl(item) = item else { continue };
                let Some(owner) = self.public.owner(path, item) else { continue };
                let mut item = Item::Impl(item.clone());
                self.tidy(&mut item, path, &module.cfgs);
                let Item::Impl(item) = item else { unreachable!("it was one") };
                if item.trait_.is_some() || !item.items.is_empty() {
                    add_impl(self.impls.entry(owner).or_default(), item);
                }
            }
        }
        for impls in self.impls.values_mut() {
            for item in impls.iter_mut().filter(|item| item.trait_.is_none()) {
                item.items.sort_by_key(place);
            }
            impls.sort_by_key(|item| (item.trait_.is_some(), header(item)));
        }
    }

    /// The items of a public module. `shown` are the conditions that stand above them already.
    fn module(&mut self, public: &[String], shown: &[Attribute]) -> Vec<Item> {
        let mut items = Vec::new();
        let reached = self.public.modules[public].clone();
        for (name, Reached { definition, cfgs }) in reached {
            let path = [public, from_ref(&name)].concat();
            let name = Ident::new(&name, Span::call_site());
            if let Some(module) = self.public.source.modules.get(&definition) {
                let cfgs = without(&[&cfgs[..], &module.cfgs].concat(), shown);
                let inner = self.module(&path, &[shown, &cfgs].concat());
                items.push(parse_quote!(#(#cfgs)* pub mod #name { #(#inner)* }));
            } else if definition[0] == "crate" {
                let (_, module) = definition.split_last().expect("a name");
                let found = self.public.definition(&definition);
                let mut item = found.unwrap_or_else(|| panic!("no {definition:?}")).clone();
                let cfgs = [&cfgs[..], &self.public.source.modules[module].cfgs].concat();
                self.tidy(&mut item, module, &cfgs);
                rename(&mut item, name);
                let impls = self.impls.remove(&definition).unwrap_or_default();
                for mut item in [vec![item], impls.into_iter().map(Item::Impl).collect()].concat() {
                    let attributes = attributes(&mut item);
                    *attributes = without(attributes, shown);
                    items.push(item);
                }
            } else {
                self.crates.insert(definition[0].clone());
                let target: Path = syn::parse_str(&definition.join("::")).expect("a path");
                let cfgs = without(&cfgs, shown);
                let is_renamed = definition.last().is_some_and(|last| name != last);
                let renamed = is_renamed.then(|| quote!(as #name));
                items.push(parse_quote!(#(#cfgs)* pub use #target #renamed;));
            }
        }
        items
    }

    /// An item as it is listed, with the conditions of its module and re-export.
    fn tidy(&mut self, item: &mut Item, module: &[String], cfgs: &[Attribute]) {
        let (public, crates) = (self.public, &mut self.crates);
        tidy::item(item, &mut |path| {
            let found = public.source.resolve(module, path);
            if found[0] != "crate" && found.len() > 1 {
                crates.insert(found[0].clone());
            }
            match public.name(&found) {
                Some(name) => name[1..].to_vec(),
                None => found,
            }
        });
        let attributes = attributes(item);
        let own = without(attributes, cfgs);
        *attributes = [without(cfgs, &[]), own].concat();
    }
}

/// Where an item stands in its impl: constants first, and the rest by name.
fn place(item: &ImplItem) -> (u8, Option<Ident>) {
    match item {
        ImplItem::Const(item) => (0, Some(item.ident.clone())),
        ImplItem::Type(item) => (1, Some(item.ident.clone())),
        ImplItem::Fn(item) => (2, Some(item.sig.ident.clone())),
        _ => (3, None),
    }
}

/// The blocks with one head are one.
fn add_impl(impls: &mut Vec<ItemImpl>, item: ItemImpl) {
    let head = header(&item);
    match impls.iter_mut().find(|other| item.trait_.is_none() && header(other) == head) {
        Some(other) => other.items.extend(item.items),
        None => impls.push(item),
    }
}

fn header(item: &ItemImpl) -> String {
    ItemImpl { items: Vec::new(), ..item.clone() }.to_token_stream().to_string()
}

/// Each attribute once, and none that was shown.
fn without(attributes: &[Attribute], shown: &[Attribute]) -> Vec<Attribute> {
    let mut rest: Vec<Attribute> = Vec::new();
    for attribute in attributes {
        if !shown.contains(attribute) && !rest.contains(attribute) {
            rest.push(attribute.clone());
        }
    }
    rest
}
