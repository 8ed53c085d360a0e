//! Text into tokens. Attribute names take nearly every character, so the lexer knows where one begins.

use super::QueryError;
use super::ast::{Intrinsic, Literal, Scope};

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    Literal(Literal),
    Attribute(Scope, String),
    Intrinsic(Intrinsic),
    /// `parent.x`: an attribute or intrinsic of the parent span.
    Parent(Box<Token>),
    Word(String),
    Symbol(&'static str),
    End,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Spanned {
    pub token: Token,
    pub offset: usize,
    pub length: usize,
}

/// Longest first.
const SYMBOLS: [&str; 42] = [
    "&>>", "&<<", "!>>", "!<<", "&&", "||", "=~", "!~", "!=", ">=", "<=", ">>", "<<", "!>", "!<", "&>", "&<", "&~",
    "{", "}", "(", ")", "=", ">", "<", "~", "!", "|", "+", "-", "*", "/", "%", "^", ",", "&", "[", "]", ";", ":", "@",
    "#",
];

/// Characters that end an attribute's name.
fn ends_name(c: char) -> bool {
    c.is_whitespace() || "{}()=~!<>&|^,".contains(c)
}

const SCOPES: [(&str, Scope); 6] = [
    (".", Scope::Any),
    ("span.", Scope::Span),
    ("resource.", Scope::Resource),
    ("event.", Scope::Event),
    ("link.", Scope::Link),
    ("instrumentation.", Scope::Instrumentation),
];

pub fn lex(text: &str) -> Result<Vec<Spanned>, QueryError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    loop {
        at = skip_blank(text, at)?;
        let rest = &text[at..];
        let Some(first) = rest.chars().next() else { break };
        let (token, length) = if let Some(found) = attribute(rest, at)? {
            found
        } else if first == '"' || first == '`' {
            string(rest, at)?
        } else if first.is_ascii_digit() || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())) {
            number(rest, at)?
        } else if first.is_alphabetic() || first == '_' {
            word(rest)
        } else if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            (Token::Symbol(symbol), symbol.len())
        } else {
            return Err(QueryError::new(format!("unexpected character {first:?}"), at, first.len_utf8()));
        };
        tokens.push(Spanned { token, offset: at, length });
        at += length;
    }
    tokens.push(Spanned { token: Token::End, offset: text.len(), length: 0 });
    Ok(tokens)
}

/// Passes over white space and comments.
fn skip_blank(text: &str, mut at: usize) -> Result<usize, QueryError> {
    loop {
        let rest = &text[at..];
        let trimmed = rest.trim_start();
        at += rest.len() - trimmed.len();
        if trimmed.starts_with("//") {
            at += trimmed.find('\n').unwrap_or(trimmed.len());
        } else if trimmed.starts_with("/*") {
            match trimmed.find("*/") {
                Some(end) => at += end + 2,
                None => return Err(QueryError::new("comment does not end", at, 2)),
            }
        } else {
            return Ok(at);
        }
    }
}

fn attribute(rest: &str, at: usize) -> Result<Option<(Token, usize)>, QueryError> {
    if let Some(of_parent) = rest.strip_prefix("parent.") {
        let is_scoped = SCOPES.iter().any(|(prefix, scope)| *scope != Scope::Any && of_parent.starts_with(prefix));
        let skipped = if is_scoped { "parent.".len() } else { "parent".len() };
        let Some((token, length)) = attribute(&rest[skipped..], at + skipped)? else {
            return Err(QueryError::new("an attribute name is missing", at, "parent.".len()));
        };
        let token = match token {
            Token::Attribute(Scope::Any, key) => match Intrinsic::of_name(&key) {
                Some(intrinsic) => Token::Intrinsic(intrinsic),
                None => Token::Attribute(Scope::Any, key),
            },
            token => token,
        };
        return Ok(Some((Token::Parent(Box::new(token)), skipped + length)));
    }
    for (prefix, scope) in SCOPES {
        let Some(name) = rest.strip_prefix(prefix) else { continue };
        if scope == Scope::Any && name.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(None);
        }
        let mut key = String::new();
        let mut length = prefix.len();
        let mut characters = name.char_indices().peekable();
        while let Some((_, c)) = characters.peek().copied() {
            if c == '"' {
                characters.next();
                let mut closed = false;
                while let Some((_, c)) = characters.next() {
                    match c {
                        '"' => {
                            closed = true;
                            break;
                        }
                        '\\' => match characters.next() {
                            Some((_, escaped @ ('"' | '\\'))) => key.push(escaped),
                            _ => return Err(QueryError::new("only \\\" and \\\\ may be escaped here", at, rest.len())),
                        },
                        c => key.push(c),
                    }
                }
                if !closed {
                    return Err(QueryError::new("quoted name does not end", at, rest.len()));
                }
            } else if ends_name(c) {
                break;
            } else {
                key.push(c);
                characters.next();
            }
        }
        length += characters.peek().map_or(name.len(), |(place, _)| *place);
        if key.is_empty() {
            return Err(QueryError::new("an attribute name is missing", at, prefix.len()));
        }
        return Ok(Some((Token::Attribute(scope, key), length)));
    }
    Ok(None)
}

fn string(rest: &str, at: usize) -> Result<(Token, usize), QueryError> {
    if let Some(raw) = rest.strip_prefix('`') {
        let end = raw.find('`').ok_or_else(|| QueryError::new("string does not end", at, rest.len()))?;
        return Ok((Token::Literal(Literal::String(raw[..end].to_owned())), end + 2));
    }
    let mut out = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((place, c)) = characters.next() {
        let escaped = match c {
            '"' => return Ok((Token::Literal(Literal::String(out)), place + 1)),
            '\\' => characters.next().map(|(_, c)| c),
            c => {
                out.push(c);
                continue;
            }
        };
        let digits = match escaped {
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            _ => 0,
        };
        let code: String = (0..digits).filter_map(|_| characters.next().map(|(_, c)| c)).collect();
        let read = match escaped {
            Some('n') => Some('\n'),
            Some('t') => Some('\t'),
            Some('r') => Some('\r'),
            Some(c @ ('"' | '\\' | '\'')) => Some(c),
            _ if digits > 0 => u32::from_str_radix(&code, 16).ok().and_then(char::from_u32),
            _ => None,
        };
        out.push(read.ok_or_else(|| {
            QueryError::new("unknown escape in string", at + place, 2)
                .hint("write \\\\ for a backslash, or put the text between backquotes")
        })?);
    }
    Err(QueryError::new("string does not end", at, rest.len()))
}

const UNITS: [(&str, f64); 10] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3_600e9),
    ("d", 86_400e9),
    ("w", 604_800e9),
    ("y", 31_536_000e9),
];

fn number(rest: &str, at: usize) -> Result<(Token, usize), QueryError> {
    let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != 'µ').unwrap_or(rest.len());
    let text = &rest[..length];
    let invalid = |what: &str| QueryError::new(format!("{text:?} is not a {what}"), at, length);
    if text.chars().all(|c| c.is_ascii_digit()) {
        let value = text.parse().map_err(|_| invalid("number that fits 64 bits"))?;
        return Ok((Token::Literal(Literal::Int(value)), length));
    }
    if text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E'))
        && let Ok(value) = text.parse()
    {
        return Ok((Token::Literal(Literal::Float(value)), length));
    }
    let mut nanos = 0.0;
    let mut parts = text;
    while !parts.is_empty() {
        let digits = parts.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(|| invalid("duration"))?;
        let value: f64 = parts[..digits].parse().map_err(|_| invalid("number"))?;
        parts = &parts[digits..];
        let unit_end = parts.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(parts.len());
        let unit = UNITS.iter().find(|(unit, _)| *unit == &parts[..unit_end]);
        let (_, factor) = unit.ok_or_else(|| {
            invalid("number or duration")
                .hint("durations are written 100ms, 1.5s, 2m, 1h; units are ns us ms s m h d w y")
        })?;
        nanos += value * factor;
        parts = &parts[unit_end..];
    }
    if nanos > i64::MAX as f64 {
        return Err(invalid("duration that fits 64 bits"));
    }
    Ok((Token::Literal(Literal::Duration(nanos as i64)), length))
}

fn word(rest: &str) -> (Token, usize) {
    let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
    let text = &rest[..length];
    let literal = match text {
        "nil" => Some(Literal::Nil),
        "true" => Some(Literal::Bool(true)),
        "false" => Some(Literal::Bool(false)),
        "unset" => Some(Literal::Status(0)),
        "ok" => Some(Literal::Status(1)),
        "error" => Some(Literal::Status(2)),
        "unspecified" => Some(Literal::Kind(0)),
        "internal" => Some(Literal::Kind(1)),
        "server" => Some(Literal::Kind(2)),
        "client" => Some(Literal::Kind(3)),
        "producer" => Some(Literal::Kind(4)),
        "consumer" => Some(Literal::Kind(5)),
        "minInt" => Some(Literal::Int(i64::MIN)),
        "maxInt" => Some(Literal::Int(i64::MAX)),
        _ => None,
    };
    let token = match (literal, Intrinsic::of_name(text)) {
        (Some(literal), _) => Token::Literal(literal),
        (None, Some(intrinsic)) => Token::Intrinsic(intrinsic),
        (None, None) => Token::Word(text.to_owned()),
    };
    (token, length)
}
