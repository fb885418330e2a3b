//! An item as the list shows it: names in full, and nothing that its user does not see.

use std::collections::BTreeSet;

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use syn::{
    Attribute, Field, Fields, FnArg, Ident, ImplItem, Item, Pat, Path, PathArguments, PathSegment,
    Token, TypeParam, TypePath, Visibility, parse_quote,
    punctuated::Punctuated,
    visit_mut::{self, VisitMut},
};

use crate::modules::{Names, cfgs_of, is_possible};

/// The field that stands for those that are private.
pub(crate) const PRIVATE: &str = "__private: _,";

/// What a name means where the item stands: its path in public, or in another crate.
pub(crate) type NameOf<'a> = dyn FnMut(&[String]) -> Names + 'a;

pub(crate) fn item(item: &mut Item, name_of: &mut NameOf<'_>) {
    let mut generics = Generics::default();
    generics.visit_item_mut(item);
    match item {
        Item::Struct(item) => hide_private(&mut item.fields),
        Item::Union(item) => {
            let mut fields = Fields::Named(item.fields.clone());
            hide_private(&mut fields);
            if let Fields::Named(fields) = fields {
                item.fields = fields;
            }
        }
        Item::Impl(item) if item.trait_.is_some() => {
            // The trait says how its functions look.
            item.items.retain(|item| matches!(item, ImplItem::Const(_) | ImplItem::Type(_)));
        }
        Item::Impl(item) => item.items.retain(is_public),
        _ => {}
    }
    Tidy { name_of, generics: generics.names }.visit_item_mut(item);
}

fn is_public(item: &ImplItem) -> bool {
    let (visibility, attributes) = match item {
        ImplItem::Const(item) => (&item.vis, &item.attrs),
        ImplItem::Fn(item) => (&item.vis, &item.attrs),
        ImplItem::Type(item) => (&item.vis, &item.attrs),
        _ => panic!("an impl holds what cannot be looked into: {}", item.to_token_stream()),
    };
    matches!(visibility, Visibility::Public(_)) && cfgs_of(attributes).iter().all(is_possible)
}

fn hide_private(fields: &mut Fields) {
    let is_public = |field: &Field| matches!(field.vis, Visibility::Public(_));
    match fields {
        Fields::Named(named) => {
            let all = named.named.len();
            named.named = std::mem::take(&mut named.named).into_iter().filter(is_public).collect();
            if named.named.len() < all {
                named.named.push(parse_quote!(__private: _));
            }
        }
        // Their number is seen.
        Fields::Unnamed(unnamed) => {
            for field in unnamed.unnamed.iter_mut().filter(|field| !is_public(field)) {
                field.ty = parse_quote!(_);
                field.attrs.clear();
                field.vis = Visibility::Inherited;
            }
        }
        Fields::Unit => {}
    }
}

/// The names of type parameters, which are no paths.
#[derive(Default)]
struct Generics {
    names: BTreeSet<String>,
}

impl VisitMut for Generics {
    fn visit_type_param_mut(&mut self, parameter: &mut TypeParam) {
        self.names.insert(parameter.ident.to_string());
        visit_mut::visit_type_param_mut(self, parameter);
    }
}

struct Tidy<'a, 'b> {
    name_of: &'a mut NameOf<'b>,
    generics: BTreeSet<String>,
}

impl Tidy<'_, '_> {
    /// Writes a path in full.
    fn complete(&mut self, path: &mut Path) {
        let written: Names = path.segments.iter().map(|name| name.ident.to_string()).collect();
        if written[0] == "Self" || self.generics.contains(&written[0]) {
            return;
        }
        path.leading_colon = None;
        let named = (self.name_of)(&written);
        let arguments = path.segments.iter().rev().map(|name| name.arguments.clone());
        let mut arguments: Vec<PathArguments> = arguments.collect();
        arguments.resize(named.len(), PathArguments::None);
        let segments = named.iter().zip(arguments.into_iter().rev()).map(|(name, arguments)| {
            let ident = Ident::new(name, Span::call_site());
            PathSegment { ident, arguments }
        });
        path.segments = segments.collect();
    }

    fn attribute(&mut self, mut attribute: Attribute) -> Option<Attribute> {
        let name = attribute.path().get_ident()?.to_string();
        match name.as_str() {
            "derive" => {
                let parse = Punctuated::<Path, Token![,]>::parse_terminated;
                let mut derived: Vec<Path> =
                    attribute.parse_args_with(parse).expect("traits").into_iter().collect();
                for path in &mut derived {
                    self.complete(path);
                }
                derived.sort_by_key(|path| path.to_token_stream().to_string());
                attribute = parse_quote!(#[derive(#(#derived),*)]);
            }
            "cfg_attr" => {
                let tokens = attribute.meta.require_list().expect("a list").tokens.to_string();
                if tokens.starts_with("docsrs") {
                    return None;
                }
            }
            "doc" if attribute.parse_args::<Path>().is_ok_and(|path| path.is_ident("hidden")) => {}
            "cfg" | "deprecated" | "must_use" | "non_exhaustive" | "repr" | "serde" => {}
            _ => return None,
        }
        Some(attribute)
    }
}

impl VisitMut for Tidy<'_, '_> {
    fn visit_attributes_mut(&mut self, attributes: &mut Vec<Attribute>) {
        let all = std::mem::take(attributes);
        attributes.extend(all.into_iter().filter_map(|attribute| self.attribute(attribute)));
    }

    fn visit_path_mut(&mut self, path: &mut Path) {
        visit_mut::visit_path_mut(self, path);
        self.complete(path);
    }

    fn visit_type_path_mut(&mut self, node: &mut TypePath) {
        let Some(qself) = &mut node.qself else {
            return visit_mut::visit_type_path_mut(self, node);
        };
        self.visit_type_mut(&mut qself.ty);
        let written = node.path.segments.len();
        self.visit_path_mut(&mut node.path);
        // `<S as Trait>::Name`: the position counts the names of the trait.
        qself.position = qself.position + node.path.segments.len() - written;
    }

    fn visit_block_mut(&mut self, block: &mut syn::Block) {
        block.stmts.clear();
    }

    fn visit_fn_arg_mut(&mut self, argument: &mut FnArg) {
        match argument {
            FnArg::Receiver(receiver) => receiver.mutability = None,
            FnArg::Typed(argument) => {
                if let Pat::Ident(pattern) = &mut *argument.pat {
                    pattern.mutability = None;
                }
            }
        }
        visit_mut::visit_fn_arg_mut(self, argument);
    }

    fn visit_token_stream_mut(&mut self, _: &mut TokenStream) {}
}
