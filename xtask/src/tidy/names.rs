//! What the code of one file names: its `use` lines, the paths written inline, and the types that
//! it gives inherent methods.
//!
//! It reads tokens and not syntax trees, so that what stands inside macros counts as well.
//! Code under `#[cfg(test)]` is left out.

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// A path as it is written, and the modules inside the file around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) path: Vec<String>,
    pub(super) inside: Vec<String>,
}

/// What a file names.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Imports, each with the name by which it is known here; globs have none.
    pub(super) uses: Vec<(Named, Option<String>)>,
    /// Paths of two parts and more.
    pub(super) paths: Vec<Named>,
    /// Types with `impl Type {` blocks.
    pub(super) owners: Vec<String>,
}

/// Reads what a file names.
///
/// # Errors
/// The text is no Rust.
pub(super) fn read(text: &str) -> Result<Names> {
    let stream: TokenStream = text.parse().map_err(|error| anyhow!("no Rust: {error}"))?;
    let mut tokens = Vec::new();
    flatten(stream, &mut tokens);
    let mut reader = Reader { tokens, at: 0, inside: Vec::new(), names: Names::default() };
    reader.read();
    Ok(reader.names)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `::`
    Path,
    Sign(char),
    Open(Delimiter),
    Close(Delimiter),
    Literal,
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        match tree {
            TokenTree::Group(group) => {
                tokens.push(Token::Open(group.delimiter()));
                flatten(group.stream(), tokens);
                tokens.push(Token::Close(group.delimiter()));
            }
            TokenTree::Ident(word) => tokens.push(Token::Word(word.to_string())),
            TokenTree::Literal(_) => tokens.push(Token::Literal),
            TokenTree::Punct(sign) => {
                let is_joint = sign.spacing() == Spacing::Joint;
                let next = trees.peek();
                match (sign.as_char(), next) {
                    (':', Some(TokenTree::Punct(next))) if is_joint && next.as_char() == ':' => {
                        trees.next();
                        tokens.push(Token::Path);
                    }
                    // A lifetime is no name.
                    ('\'', Some(TokenTree::Ident(_))) => {
                        trees.next();
                        tokens.push(Token::Literal);
                    }
                    (sign, _) => tokens.push(Token::Sign(sign)),
                }
            }
        }
    }
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
    /// The modules inside the file that are open, each with where its braces close.
    inside: Vec<(String, usize)>,
    names: Names,
}

impl Reader {
    fn read(&mut self) {
        while self.at < self.tokens.len() {
            self.inside.retain(|(_, end)| *end > self.at);
            match self.word(self.at) {
                None if self.is_test_attribute() => self.skip_item(),
                None => self.at += 1,
                Some("use") if self.tokens.get(self.at + 1) != Some(&Token::Sign('<')) => {
                    self.at += 1;
                    self.read_use(&mut Vec::new());
                }
                Some("mod") => self.read_mod(),
                Some("impl") if self.is_item() => self.read_impl(),
                Some(_) => self.read_path(),
            }
        }
    }

    fn word(&self, at: usize) -> Option<&str> {
        match self.tokens.get(at) {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn named(&self, path: Vec<String>) -> Named {
        Named { path, inside: self.inside.iter().map(|(name, _)| name.clone()).collect() }
    }

    /// `#[cfg(test)]`, `#[cfg(any(test, …))]`.
    fn is_test_attribute(&self) -> bool {
        let opens = [Token::Sign('#'), Token::Open(Delimiter::Bracket), word("cfg")];
        if !self.tokens[self.at..].starts_with(&opens) {
            return false;
        }
        let inner = &self.tokens[self.at..self.end_of(self.at + 1)];
        inner.contains(&word("test")) && !inner.contains(&word("not"))
    }

    /// Passes over an attribute and what it stands before, up to its semicolon or braces.
    fn skip_item(&mut self) {
        self.at = self.end_of(self.at + 1) + 1;
        while let Some(token) = self.tokens.get(self.at) {
            match token {
                Token::Sign(';') => break,
                Token::Open(Delimiter::Brace) => {
                    self.at = self.end_of(self.at);
                    break;
                }
                Token::Open(_) => self.at = self.end_of(self.at) + 1,
                Token::Close(_) => return,
                _ => self.at += 1,
            }
        }
        self.at += 1;
    }

    /// Where the group that opens at `from` closes.
    fn end_of(&self, from: usize) -> usize {
        let mut depth = 0_usize;
        for (at, token) in self.tokens.iter().enumerate().skip(from) {
            match token {
                Token::Open(_) => depth += 1,
                Token::Close(_) => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return at;
            }
        }
        self.tokens.len()
    }

    fn read_mod(&mut self) {
        if let (Some(name), Some(Token::Open(Delimiter::Brace))) =
            (self.word(self.at + 1), self.tokens.get(self.at + 2))
        {
            self.inside.push((name.to_owned(), self.end_of(self.at + 2)));
        }
        self.at += 1;
    }

    /// One tree of imports below `prefix`; ends behind it.
    fn read_use(&mut self, prefix: &mut Vec<String>) {
        let depth = prefix.len();
        while let Some(token) = self.tokens.get(self.at) {
            match token.clone() {
                Token::Word(word) if word == "as" => {
                    let name = self.word(self.at + 1).map(str::to_owned);
                    self.at += 2;
                    self.finish_use(prefix, depth, name);
                    return;
                }
                Token::Word(word) => prefix.push(word),
                Token::Path => {}
                Token::Sign('*') => {
                    self.at += 1;
                    let named = self.named(std::mem::take(prefix));
                    prefix.extend_from_slice(&named.path[..depth]);
                    self.names.uses.push((named, None));
                    return;
                }
                Token::Open(_) => {
                    let end = self.end_of(self.at);
                    self.at += 1;
                    while self.at < end {
                        self.read_use(prefix);
                        self.at += usize::from(self.tokens[self.at] == Token::Sign(','));
                    }
                    self.at = end + 1;
                    prefix.truncate(depth);
                    return;
                }
                Token::Sign(_) | Token::Close(_) | Token::Literal => {
                    let name = prefix.iter().rfind(|part| *part != "self").cloned();
                    self.finish_use(prefix, depth, name);
                    return;
                }
            }
            self.at += 1;
        }
    }

    fn finish_use(&mut self, prefix: &mut Vec<String>, depth: usize, name: Option<String>) {
        let mut path = prefix.clone();
        // `a::{self}` is `a`.
        if path.len() > 1 && path.last().is_some_and(|part| part == "self") {
            path.pop();
        }
        prefix.truncate(depth);
        if !path.is_empty() {
            self.names.uses.push((self.named(path), name));
        }
    }

    fn read_path(&mut self) {
        let before = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        let is_start = !matches!(before, Some(Token::Path | Token::Sign('.')));
        let mut path = Vec::new();
        while let Some(word) = self.word(self.at) {
            path.push(word.to_owned());
            self.at += 1;
            if self.tokens.get(self.at) != Some(&Token::Path) {
                break;
            }
            self.at += 1;
        }
        if is_start && path.len() > 1 {
            self.names.paths.push(self.named(path));
        }
    }

    /// Whether what stands here begins an item, and is no type.
    fn is_item(&self) -> bool {
        let Some(before) = self.at.checked_sub(1) else { return true };
        match &self.tokens[before] {
            Token::Sign(';') | Token::Open(Delimiter::Brace) => true,
            Token::Close(Delimiter::Brace | Delimiter::Bracket) => true,
            Token::Word(word) => word == "unsafe",
            _ => false,
        }
    }

    /// Notes the type of an `impl` block that is of no trait. What stands in its head is read
    /// again as paths.
    fn read_impl(&mut self) {
        self.at += 1;
        let mut at = self.at;
        let mut angles = 0_usize;
        let mut owner = None;
        while let Some(token) = self.tokens.get(at) {
            match token {
                Token::Sign('<') => angles += 1,
                Token::Sign('>') if self.tokens[at - 1] == Token::Sign('-') => {}
                Token::Sign('>') => angles = angles.saturating_sub(1),
                Token::Word(word) if angles == 0 && word == "for" => return,
                Token::Word(word) if angles == 0 && word == "where" => break,
                Token::Word(word) if angles == 0 => owner = Some(word.clone()),
                Token::Open(Delimiter::Brace) if angles == 0 => break,
                Token::Open(_) => at = self.end_of(at),
                _ => {}
            }
            at += 1;
        }
        self.names.owners.extend(owner);
    }
}

fn word(word: &str) -> Token {
    Token::Word(word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_uses(text: &str, expected: &[&str]) {
        let shown = |(named, name): &(Named, Option<String>)| {
            format!("{} {}", named.path.join("::"), name.as_deref().unwrap_or("*"))
        };
        let uses: Vec<_> = read(text).expect("is Rust").uses.iter().map(shown).collect();
        assert_eq!(uses, expected);
    }

    #[track_caller]
    fn check_paths(text: &str, expected: &[&str]) {
        let shown =
            |named: &Named| [&named.inside[..], &[named.path.join("::")]].concat().join("/");
        let paths: Vec<_> = read(text).expect("is Rust").paths.iter().map(shown).collect();
        assert_eq!(paths, expected);
    }

    #[track_caller]
    fn check_owners(text: &str, expected: &[&str]) {
        assert_eq!(read(text).expect("is Rust").owners, expected);
    }

    #[test]
    fn use_trees_are_taken_apart() {
        check_uses("use a::b;", &["a::b b"]);
        check_uses(
            "pub(crate) use a::{self, b::{C, D as E}, f::*};",
            &["a a", "a::b::C C", "a::b::D E", "a::f *"],
        );
        check_uses("use super::{x, y}; use z;", &["super::x x", "super::y y", "z z"]);
    }

    #[test]
    fn paths_are_found_in_types_bodies_and_macros() {
        check_paths(
            "fn f(x: crate::a::B) -> c::D { e::f(g.h::<i::J>()) }",
            &["crate::a::B", "c::D", "e::f", "i::J"],
        );
        check_paths("fn f() { select! { x = a::b() => log!(\"{}\", c::d) } }", &["a::b", "c::d"]);
        check_paths("mod m { fn f() { super::g() } } fn h() { a::b() }", &["m/super::g", "a::b"]);
        check_paths("// a::b\n/* c::d */ const E: &str = \"f::g\"; fn h<'a>() {}", &[]);
    }

    #[test]
    fn what_only_tests_see_is_left_out() {
        check_paths("#[cfg(test)] mod tests { fn f() { a::b() } } fn g() { c::d() }", &["c::d"]);
        check_uses("#[cfg(any(test, feature = \"x\"))] pub use a::b; use c::d;", &["c::d d"]);
        check_uses("#[cfg(not(test))] use a::b;", &["a::b b"]);
    }

    #[test]
    fn only_inherent_impls_own_a_type() {
        check_owners("impl A { fn f() -> impl B { x } } impl C for D {}", &["A"]);
        check_owners("impl<T: Fn() -> u8> A<T> where T: B {} unsafe impl<T> C for D<T> {}", &["A"]);
        check_owners("#[x] impl super::A<'_> {} fn f(a: impl B) {}", &["A"]);
    }
}
