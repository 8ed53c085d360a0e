//! Names without what differs from call to call: numbers, ids and literals in URLs, SQL, cache keys and span names.

/// What stands where an id stood.
const ID: &str = "{id}";

/// A URL or a path without scheme, host and query; ids folded: `/cart/42?x=1` is `/cart/{id}`.
pub fn path(url: &str) -> String {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
    let path = after_scheme.split(['?', '#']).next().unwrap_or_default();
    if path.is_empty() {
        return "/".to_owned();
    }
    path.split('/').map(fold_segment).collect::<Vec<_>>().join("/")
}

/// One part of a path. Templates of frameworks (`<int:user>`, `:user`) become `{user}`.
fn fold_segment(segment: &str) -> String {
    if let Some(name) = segment.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')) {
        return format!("{{{}}}", name.rsplit(':').next().unwrap_or(name));
    }
    if let Some(name) = segment.strip_prefix(':').filter(|name| !name.is_empty()) {
        return format!("{{{name}}}");
    }
    if segment.starts_with('{') {
        return segment.to_owned();
    }
    if is_id(segment) {
        return ID.to_owned();
    }
    // `item-42.json`: the number alone is the id.
    fold_pieces(segment)
}

/// A number, a UUID, a long hexadecimal text, or a long text of letters and several digits.
fn is_id(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || byte == b'=');
    !text.is_empty()
        && (digits == text.len()
            || is_uuid(text)
            || (is_hex && text.len() >= 8 && digits > 0)
            || (is_word && text.len() >= 20 && digits >= 3))
}

fn is_uuid(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, byte)| if is_dash(at) { *byte == b'-' } else { byte.is_ascii_hexdigit() })
}

/// Folds the ids among pieces that `:`, `-`, `_`, `.`, `,` and `#` divide; the dividers stay.
fn fold_pieces(text: &str) -> String {
    if is_id(text) {
        return ID.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for piece in text.split_inclusive([':', '-', '_', '.', ',', '#', '=', '(', ')', '[', ']']) {
        let body = piece.trim_end_matches([':', '-', '_', '.', ',', '#', '=', '(', ')', '[', ']']);
        if is_id(body) {
            out.push_str(ID);
            out.push_str(&piece[body.len()..]);
        } else {
            out.push_str(piece);
        }
    }
    out
}

/// A span name or a cache key: `GET /users/42` is `GET /users/{id}`, `user:42:cart` is `user:{id}:cart`.
pub fn name(text: &str) -> String {
    let fold = |word: &str| match word {
        word if word.starts_with('/') || word.contains("://") => path(word),
        word => fold_pieces(word),
    };
    let mut out = String::with_capacity(text.len());
    for (number, word) in text.split_whitespace().enumerate() {
        if number > 0 {
            out.push(' ');
        }
        out.push_str(&fold(word));
    }
    out
}

/// Whether a text begins as an SQL statement does.
pub fn is_sql(text: &str) -> bool {
    const VERBS: [&str; 20] = [
        "SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "MERGE", "REPLACE", "CREATE", "ALTER", "DROP", "TRUNCATE",
        "CALL", "EXEC", "EXECUTE", "BEGIN", "COMMIT", "ROLLBACK", "PRAGMA", "EXPLAIN", "UPSERT",
    ];
    let first = text.trim_start().split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    VERBS.iter().any(|verb| verb.eq_ignore_ascii_case(first))
}

/// Longest statement that is read; the rest of a longer one is left out.
const SQL_BYTES: usize = 16 << 10;

/// A statement with literals and parameters as `?`, lists of them as one, comments and line ends gone. Works on
/// statements that were cut off as well.
pub fn sql(text: &str) -> String {
    let mut end = text.len().min(SQL_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    let bytes = text.as_bytes();
    let mut out = Tokens { text: String::with_capacity(text.len()), glue: true };
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        let rest = &text[at..];
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => {
                out.glue = false;
                at += 1;
            }
            b'-' if rest.starts_with("--") => at += rest.find('\n').unwrap_or(rest.len()),
            b'/' if rest.starts_with("/*") => at += rest.find("*/").map_or(rest.len(), |end| end + 2),
            b'\'' => {
                at += quoted(&bytes[at..], b'\'');
                out.placeholder();
            }
            b'"' | b'`' => {
                let len = quoted(&bytes[at..], byte);
                out.word(&text[at..at + len]);
                at += len;
            }
            b'0'..=b'9' => {
                at += bytes[at..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'.').count();
                out.placeholder();
            }
            b'?' => {
                at += 1;
                out.placeholder();
            }
            b'$' | b'@' | b':' if bytes.get(at + 1).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_') => {
                at += 1 + bytes[at + 1..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
                out.placeholder();
            }
            b':' if rest.starts_with("::") => {
                out.punctuation("::");
                at += 2;
            }
            b'%' if rest.starts_with("%s") || rest.starts_with("%(") => {
                at += if rest.starts_with("%s") { 2 } else { rest.find(")s").map_or(rest.len(), |end| end + 2) };
                out.placeholder();
            }
            _ if byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80 => {
                let word = |b: &&u8| b.is_ascii_alphanumeric() || **b == b'_' || **b >= 0x80 || **b == b'.';
                let len = bytes[at..].iter().take_while(word).count();
                let found = &text[at..at + len];
                match found.to_ascii_uppercase().as_str() {
                    "TRUE" | "FALSE" => out.placeholder(),
                    _ => out.word(found),
                }
                at += len;
            }
            _ => {
                let len = rest.chars().next().map_or(1, char::len_utf8);
                out.punctuation(&rest[..len]);
                at += len;
            }
        }
    }
    let mut done = out.text.trim_end_matches([';', ' ']).to_owned();
    // Rows of an INSERT: `(?), (?)` are one.
    while let Some(at) = done.find("(?), (?)") {
        done.replace_range(at + 3..at + 8, "");
    }
    done
}

/// Length of a quoted text, its quotes included; a doubled quote or a backslash keeps it open.
fn quoted(bytes: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        if bytes[at] == b'\\' {
            at += 2;
        } else if bytes[at] != quote {
            at += 1;
        } else if bytes.get(at + 1) == Some(&quote) {
            at += 2;
        } else {
            return at + 1;
        }
    }
    bytes.len()
}

struct Tokens {
    text: String,
    /// The next token follows without a space, as far as it may.
    glue: bool,
}

impl Tokens {
    fn word(&mut self, word: &str) {
        let sticks = self.text.ends_with(['(', '.']) || self.text.ends_with("::") || self.text.is_empty();
        let is_signed = self.glue && self.text.ends_with(['-', '+']);
        if !sticks && !is_signed {
            self.text.push(' ');
        }
        self.text.push_str(word);
        self.glue = true;
    }

    fn placeholder(&mut self) {
        // A sign before a number belongs to the literal.
        if self.text.ends_with("= -") || self.text.ends_with("(-") {
            self.text.pop();
            self.text.truncate(self.text.trim_end().len());
        }
        // `?, ?` is one.
        if self.text.ends_with("?,") {
            self.text.pop();
        } else {
            self.word("?");
        }
        self.glue = true;
    }

    fn punctuation(&mut self, sign: &str) {
        let glues =
            matches!(sign, "," | ")" | ";" | "." | "::") || (sign == "(" && self.glue && !self.text.ends_with(' '));
        if !glues && !self.text.is_empty() && !self.text.ends_with(['(', ' ']) && !is_operator_pair(&self.text, sign) {
            self.text.push(' ');
        }
        self.text.push_str(sign);
        self.glue = true;
    }
}

/// `<=`, `>=`, `<>`, `!=`, `||`, `->`: no space between the two.
fn is_operator_pair(text: &str, sign: &str) -> bool {
    let Some(last) = text.chars().next_back() else { return false };
    matches!((last, sign), ('<' | '>' | '!' | '=', "=" | ">") | ('|', "|") | ('-', ">"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_names_lose_their_ids() {
        for (text, expected) in [
            ("/cart/42", "/cart/{id}"),
            ("http://catalog:8080/items/7/price?currency=EUR", "/items/{id}/price"),
            ("/users/123e4567-e89b-12d3-a456-426614174000/", "/users/{id}/"),
            ("/blob/deadbeef01", "/blob/{id}"),
            ("/cart/<user>", "/cart/{user}"),
            ("/cart/<int:user>", "/cart/{user}"),
            ("/cart/:user", "/cart/{user}"),
            ("/v1/traces", "/v1/traces"),
            ("/files/report-2024.json", "/files/report-{id}.json"),
            ("http://host", "/"),
            ("/decade", "/decade"),
        ] {
            assert_eq!(path(text), expected, "{text}");
        }
        for (text, expected) in [
            ("GET /users/42", "GET /users/{id}"),
            ("user:42:cart", "user:{id}:cart"),
            ("SELECT shop", "SELECT shop"),
            ("job 5 of 10", "job {id} of {id}"),
            ("grpc.Health/Check", "grpc.Health/Check"),
            ("s3.GetObject", "s3.GetObject"),
        ] {
            assert_eq!(name(text), expected, "{text}");
        }
    }

    #[test]
    fn statements_lose_their_literals() {
        for (text, expected) in [
            ("SELECT * FROM items WHERE id = 5", "SELECT * FROM items WHERE id = ?"),
            ("select * from items where id=$1;", "select * from items where id = ?"),
            ("SELECT a FROM t WHERE id IN (1, 2,3)", "SELECT a FROM t WHERE id IN (?)"),
            ("SELECT a FROM t WHERE id IN (?,?,?)", "SELECT a FROM t WHERE id IN (?)"),
            ("SELECT name -- who\n FROM t /* all */ WHERE s = 'it''s'", "SELECT name FROM t WHERE s = ?"),
            ("INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y')", "INSERT INTO t (a, b) VALUES (?)"),
            ("SELECT count(*) FROM \"T\" WHERE a >= -1.5e3", "SELECT count(*) FROM \"T\" WHERE a >= ?"),
            ("SELECT x::int FROM t WHERE n = %s AND m = :m", "SELECT x::int FROM t WHERE n = ? AND m = ?"),
            ("UPDATE t SET a = 'unfinished", "UPDATE t SET a = ?"),
        ] {
            assert_eq!(sql(text), expected, "{text}");
        }
        assert_eq!(sql("SELECT ü FROM t WHERE a = 'ß'"), "SELECT ü FROM t WHERE a = ?");
        assert!(is_sql(" select 1") && is_sql("WITH x AS (SELECT 1)") && !is_sql("GET user:1") && !is_sql("selection"));
    }
}
