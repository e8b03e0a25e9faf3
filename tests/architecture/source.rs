//! A parsed source file: every path that it names, resolved as far as the text alone allows.

use std::collections::BTreeMap;

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::visit::Visit;
use syn::{Item, UseTree, Visibility};

/// A file below `src/`.
pub(crate) struct Source {
    /// The path below `src/`, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// The names in one file.
#[derive(Default)]
pub(crate) struct Reading {
    /// The module of the file, from the crate's root.
    pub(crate) module: Vec<String>,
    pub(crate) mentions: Vec<Mention>,
    /// The modules that the file declares and keeps in other files, and whether they are test-only.
    pub(crate) declares: Vec<(Vec<String>, bool)>,
    /// The names that the file's module re-exports: from its own name to the full path.
    pub(crate) passes_on: BTreeMap<String, Vec<String>>,
}

/// One mention of a path.
#[derive(Debug, Clone)]
pub(crate) struct Mention {
    pub(crate) line: usize,
    /// The path as written, except that `self` and `super` are resolved; a path that begins with `crate` is
    /// absolute.
    pub(crate) path: Vec<String>,
    pub(crate) is_renamed: bool,
    /// True if the mention is in test-only code.
    pub(crate) is_test: bool,
    /// True if the mention only re-exports a name of a module below.
    pub(crate) passes_on: bool,
}

impl Source {
    /// Returns the module of the file, from the crate's root: `a/b.rs` and `a/b/mod.rs` are `a::b`.
    pub(crate) fn module(&self) -> Vec<String> {
        let path = self.path.trim_end_matches(".rs");
        let path = path.strip_suffix("/mod").unwrap_or(path);
        if matches!(path, "lib" | "main") {
            return Vec::new();
        }
        path.split('/').map(ToOwned::to_owned).collect()
    }

    pub(crate) fn read(&self) -> syn::Result<Reading> {
        let file = syn::parse_file(&self.text)?;
        let module = self.module();
        let mut reader =
            Reader { at: module.clone(), is_test: false, found: Reading { module, ..Reading::default() } };
        reader.visit_file(&file);
        Ok(reader.found)
    }
}

struct Reader {
    /// The module at this point, including modules within the file.
    at: Vec<String>,
    is_test: bool,
    found: Reading,
}

impl Reader {
    fn mention(&mut self, path: Vec<String>, span: Span, is_renamed: bool) {
        let path = self.resolved(path);
        let line = span.start().line;
        self.found.mentions.push(Mention { line, path, is_renamed, is_test: self.is_test, passes_on: false });
    }

    /// Resolves `self` and `super` at the beginning of a path.
    fn resolved(&self, path: Vec<String>) -> Vec<String> {
        let mut base = self.at.clone();
        let mut rest = path.iter().peekable();
        let mut is_relative = false;
        while let Some(first) = rest.next_if(|name| matches!(name.as_str(), "self" | "super")) {
            is_relative = true;
            if first == "super" {
                base.pop();
            }
        }
        if !is_relative {
            return path;
        }
        std::iter::once("crate".to_owned()).chain(base).chain(rest.cloned()).collect()
    }

    fn uses(&mut self, prefix: &[String], tree: &UseTree, shared: bool) {
        let joined = |name: String| prefix.iter().cloned().chain([name]).collect::<Vec<_>>();
        let (path, own_name, span) = match tree {
            UseTree::Path(path) => {
                return self.uses(&joined(path.ident.to_string()), &path.tree, shared);
            }
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.uses(prefix, tree, shared));
            }
            UseTree::Name(name) => {
                (joined(name.ident.to_string()), name.ident.to_string(), name.ident.span())
            }
            UseTree::Rename(name) => {
                (joined(name.ident.to_string()), name.rename.to_string(), name.ident.span())
            }
            UseTree::Glob(glob) => (joined("*".to_owned()), "*".to_owned(), glob.star_token.spans[0]),
        };
        // `a::{self}` is `a`.
        let is_self = path.len() > 1 && path.last().is_some_and(|name| name == "self");
        let path = if is_self { prefix.to_vec() } else { path };
        let name = if own_name == "self" { path.last().cloned().unwrap_or_default() } else { own_name };
        let path = self.resolved(path);
        let at_file = self.at == self.found.module;
        if shared && at_file && name != "*" {
            self.found.passes_on.insert(name, path.clone());
        }
        let below = |path: &[String]| {
            let own: Vec<&str> = std::iter::once("crate").chain(self.at.iter().map(String::as_str)).collect();
            let is_absolute = path.first().is_some_and(|first| first == "crate");
            !is_absolute || (path.len() > own.len() && path.iter().zip(&own).all(|(a, b)| a == b))
        };
        let passes_on = shared && at_file && below(&path);
        let is_renamed = matches!(tree, UseTree::Rename(_));
        let line = span.start().line;
        self.found.mentions.push(Mention { line, path, is_renamed, is_test: self.is_test, passes_on });
    }

    /// Reads paths in the arguments of a macro or an attribute, which have no syntax of their own. Attributes
    /// also name functions in strings: `deserialize_with = "crate::secret::of"`.
    fn tokens(&mut self, tokens: TokenStream, is_attribute: bool) {
        let (mut path, mut colons, mut span) = (Vec::<String>::new(), 0, Span::call_site());
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.token_path(&mut path, span);
                    }
                    if path.is_empty() {
                        span = ident.span();
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.token_path(&mut path, span);
                    self.tokens(group.stream(), is_attribute);
                    colons = 0;
                }
                TokenTree::Punct(_) => {
                    self.token_path(&mut path, span);
                    colons = 0;
                }
                TokenTree::Literal(literal) => {
                    self.token_path(&mut path, span);
                    colons = 0;
                    let text = literal.to_string();
                    if is_attribute && let Ok(path) = syn::parse_str::<syn::Path>(text.trim_matches('"')) {
                        self.visit_path(&path);
                    }
                }
            }
        }
        self.token_path(&mut path, span);
    }

    fn token_path(&mut self, path: &mut Vec<String>, span: Span) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.mention(path, span, false);
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        let was = self.is_test;
        self.is_test |= is_for_tests(attributes(item));
        syn::visit::visit_item(self, item);
        self.is_test = was;
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.at.push(module.ident.to_string());
        if module.content.is_none() {
            self.found.declares.push((self.at.clone(), self.is_test));
        }
        syn::visit::visit_item_mod(self, module);
        self.at.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let shared = !matches!(item.vis, Visibility::Inherited);
        self.uses(&[], &item.tree, shared);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        self.mention(vec![item.ident.to_string()], item.ident.span(), item.rename.is_some());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if let Some(first) = path.segments.first() {
            let names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.mention(names, first.ident.span(), false);
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone(), false);
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        self.visit_path(&list.path);
        self.tokens(list.tokens.clone(), true);
    }

    // `pub(in crate::a)` names a module that contains the code already.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string() == "test")
    })
}

fn attributes(item: &Item) -> &[syn::Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
