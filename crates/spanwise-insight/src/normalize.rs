//! Names without what differs from call to call: numbers, ids and literals in URLs, SQL, cache keys and span names.

/// What stands where an id stood.
const ID: &str = "{id}";

/// A URL or a path without scheme, host and query; ids folded: `/cart/42?x=1` is `/cart/{id}`.
pub fn path(url: &str) -> String {
    written(url, put_path)
}

fn written(text: &str, put: fn(&str, &mut String)) -> String {
    let mut out = String::with_capacity(text.len());
    put(text, &mut out);
    out
}

/// [`path`], at the end of a text.
pub(crate) fn put_path(url: &str, out: &mut String) {
    let after_scheme = split_scheme(url).map_or(url, |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
    let path = until(after_scheme, |byte| matches!(byte, b'?' | b'#'));
    if path.is_empty() {
        out.push('/');
        return;
    }
    let mut rest = path;
    loop {
        let segment = until(rest, |byte| byte == b'/');
        fold_segment(segment, out);
        match rest.get(segment.len() + 1..) {
            Some(behind) => rest = behind,
            None => return,
        }
        out.push('/');
    }
}

/// What stands before and behind the first `://`. The standard library's search for a text takes longer than most of these
/// texts are.
pub(crate) fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let colon = |from: usize| Some(from + bytes.get(from..)?.iter().position(|byte| *byte == b':')?);
    let mut at = colon(0)?;
    while bytes.get(at + 1..at + 3) != Some(b"//") {
        at = colon(at + 1)?;
    }
    Some((text.get(..at)?, text.get(at + 3..)?))
}

/// The beginning of a text, up to the first such byte, which is one of ASCII.
pub(crate) fn until(text: &str, is_end: impl Fn(u8) -> bool) -> &str {
    let end = text.bytes().position(is_end).unwrap_or(text.len());
    text.get(..end).unwrap_or(text)
}

/// One part of a path. Templates of frameworks (`<int:user>`, `:user`) become `{user}`.
fn fold_segment(segment: &str, out: &mut String) {
    // Most parts are words or numbers.
    if segment.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return out.push_str(segment);
    }
    if segment.bytes().all(|byte| byte.is_ascii_digit()) {
        return out.push_str(ID);
    }
    let mut named = |name: &str| ["{", name, "}"].iter().for_each(|part| out.push_str(part));
    if let Some(name) = segment.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')) {
        named(name.rsplit(':').next().unwrap_or(name));
    } else if let Some(name) = segment.strip_prefix(':').filter(|name| !name.is_empty()) {
        named(name);
    } else if segment.starts_with('{') {
        out.push_str(segment);
    } else {
        // `item-42.json`: the number alone is the id.
        fold_pieces(segment, out);
    }
}

/// A number, a UUID, a long hexadecimal text, or a long text of letters and several digits.
fn is_id(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    // A UUID without a single digit is hardly ever drawn, but is one.
    if digits == 0 && text.len() != 36 {
        return false;
    }
    let is_hex = || text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_word =
        || text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || byte == b'=');
    !text.is_empty()
        && (digits == text.len()
            || is_uuid(text)
            || (text.len() >= 8 && digits > 0 && is_hex())
            || (text.len() >= 20 && digits >= 3 && is_word()))
}

fn is_uuid(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, byte)| if is_dash(at) { *byte == b'-' } else { byte.is_ascii_hexdigit() })
}

/// Folds the ids among pieces that `:`, `-`, `_`, `.`, `,` and `#` divide; the dividers stay.
fn fold_pieces(text: &str, out: &mut String) {
    if is_id(text) {
        out.push_str(ID);
        return;
    }
    // Nothing without a digit is an id, but for a whole UUID.
    if !text.bytes().any(|byte| byte.is_ascii_digit()) {
        out.push_str(text);
        return;
    }
    let is_divider =
        |byte: u8| matches!(byte, b':' | b'-' | b'_' | b'.' | b',' | b'#' | b'=' | b'(' | b')' | b'[' | b']');
    let mut rest = text;
    while !rest.is_empty() {
        let piece = until(rest, is_divider);
        out.push_str(if is_id(piece) { ID } else { piece });
        out.push_str(rest.get(piece.len()..piece.len() + 1).unwrap_or_default());
        rest = rest.get(piece.len() + 1..).unwrap_or_default();
    }
}

/// As `split_whitespace`, which reads texts character by character.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_ascii = text.is_ascii();
    let mut rest = text;
    std::iter::from_fn(move || {
        // Those of ASCII that are white space in Unicode.
        let is_space = |byte: u8| matches!(byte, b'\t'..=b'\r' | b' ');
        let (word, behind) = match is_ascii {
            true => {
                let begin = rest.bytes().position(|byte| !is_space(byte)).unwrap_or(rest.len());
                let word = until(rest.get(begin..).unwrap_or_default(), is_space);
                (word, rest.get(begin + word.len()..).unwrap_or_default())
            }
            false => {
                let begun = rest.trim_start();
                let word = begun.split(char::is_whitespace).next().unwrap_or_default();
                (word, begun.get(word.len()..).unwrap_or_default())
            }
        };
        rest = behind;
        (!word.is_empty()).then_some(word)
    })
}

/// A span name or a cache key: `GET /users/42` is `GET /users/{id}`, `user:42:cart` is `user:{id}:cart`.
pub fn name(text: &str) -> String {
    written(text, put_name)
}

/// [`name`], at the end of a text.
pub(crate) fn put_name(text: &str, out: &mut String) {
    for (number, word) in words(text).enumerate() {
        if number > 0 {
            out.push(' ');
        }
        if word.starts_with('/') || split_scheme(word).is_some() {
            put_path(word, out);
        } else {
            fold_pieces(word, out);
        }
    }
}

/// A command of a key-value store: its name and first key; what else it carries is `?`. `SET user:42 {"a":1}` is
/// `SET user:{id} ?`.
pub fn command(text: &str) -> String {
    written(text, put_command)
}

/// [`command`], at the end of a text.
pub(crate) fn put_command(text: &str, out: &mut String) {
    let mut words = words(text);
    let first = words.next().unwrap_or_default();
    let Some(key) = words.next() else { return put_name(first, out) };
    out.push_str(first);
    out.push(' ');
    put_name(key, out);
    if words.next().is_some() {
        out.push_str(" ?");
    }
}

/// A query that is a document, as MongoDB and Elasticsearch have them: values are `?`, but for the first one, which
/// says what is asked of which collection. Works on documents that were cut off as well.
pub fn document(text: &str) -> String {
    let text = bounded(text, SQL_BYTES);
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len().min(1024));
    let (mut at, mut values) = (0, 0);
    let mut value = |out: &mut String, literal: &str, is_text: bool| {
        values += 1;
        // A list of values is one.
        match (values == 1 && is_text, out.ends_with("?, ") || out.ends_with("?,")) {
            (true, _) => out.push_str(&name(literal)),
            (false, true) => out.truncate(out.trim_end_matches([',', ' ']).len()),
            (false, false) => out.push('?'),
        }
    };
    while at < bytes.len() {
        let rest = &text[at..];
        match bytes[at] {
            quote @ (b'"' | b'\'') => {
                let len = json_text(&bytes[at..], quote);
                let is_key = rest[len..].trim_start().starts_with(':');
                match is_key {
                    true => out.push_str(&rest[..len]),
                    false => value(&mut out, &rest[..len], true),
                }
                at += len;
            }
            b'0'..=b'9' | b'-' => {
                let is_number = |b: &&u8| b.is_ascii_alphanumeric() || matches!(**b, b'.' | b'-' | b'+');
                let len = bytes[at..].iter().take_while(is_number).count().max(1);
                value(&mut out, &rest[..len], false);
                at += len;
            }
            byte if byte.is_ascii_alphabetic() || byte == b'_' || byte == b'$' => {
                let is_word = |b: &&u8| b.is_ascii_alphanumeric() || matches!(**b, b'_' | b'$' | b'.');
                let len = bytes[at..].iter().take_while(is_word).count().max(1);
                match &rest[..len] {
                    "true" | "false" | "null" => value(&mut out, &rest[..len], false),
                    word => out.push_str(word),
                }
                at += len;
            }
            b' ' | b'\t' | b'\n' | b'\r' => {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
                at += 1;
            }
            _ => {
                let len = rest.chars().next().map_or(1, char::len_utf8);
                out.push_str(&rest[..len]);
                at += len;
            }
        }
    }
    out
}

/// Length of a text in JSON, its quotes included.
fn json_text(bytes: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The beginning of a text, cut at a character.
fn bounded(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
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
    written(text, |text, out| put_sql(text, false, out))
}

/// [`sql`] of a database that writes texts in double quotes too, as MySQL does.
pub fn sql_with_double_quotes(text: &str) -> String {
    written(text, |text, out| put_sql(text, true, out))
}

/// Whether [`sql_with_double_quotes`] is what a database of this name (`db.system`) takes.
pub fn has_double_quoted_text(system: &str) -> bool {
    const SYSTEMS: [&str; 10] = [
        "mysql",
        "mariadb",
        "tidb",
        "singlestore",
        "memsql",
        "vitess",
        "gcp.bigquery",
        "bigquery",
        "gcp.spanner",
        "hive",
    ];
    SYSTEMS.iter().any(|known| known.eq_ignore_ascii_case(system))
}

/// A statement with its numbers cut short, in place of what `into` holds, for whoever remembers what statements become:
/// of statements that give the same here [`put_sql`] makes the same. `false` where names may begin with digits.
pub(crate) fn put_alike(text: &str, into: &mut String) -> bool {
    into.clear();
    let bytes = text.as_bytes();
    let (mut kept, mut at, mut is_in_word) = (0, 0, false);
    while let Some(byte) = bytes.get(at).copied() {
        if matches!(byte, b'"' | b'`' | b'[') {
            return false;
        }
        if byte.is_ascii_digit() && !is_in_word {
            let end = at + bytes.iter().skip(at).take_while(|byte| byte.is_ascii_digit()).count();
            // A zero begins hexadecimal numbers.
            let is_zero = end == at + 1 && byte == b'0';
            into.push_str(text.get(kept..at).unwrap_or_default());
            into.push(if is_zero { '0' } else { '1' });
            (kept, at, is_in_word) = (end, end, true);
            continue;
        }
        is_in_word = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.') || byte >= 0x80;
        at += 1;
    }
    into.push_str(text.get(kept..).unwrap_or_default());
    true
}

/// [`sql`] or [`sql_with_double_quotes`], in place of what `into` holds.
pub(crate) fn put_sql(text: &str, has_double_quoted_text: bool, into: &mut String) {
    let text = bounded(text, SQL_BYTES);
    let bytes = text.as_bytes();
    let mut out = Tokens { text: std::mem::take(into), glue: true };
    out.text.clear();
    out.text.reserve(text.len());
    let backslash = if has_double_quoted_text { Backslash::Escapes } else { Backslash::Perhaps };
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
            // MySQL's; PostgreSQL's operators and SQL Server's tables have no space behind it.
            b'#' if rest.starts_with("# ") && rest.contains('\n') => at += rest.find('\n').unwrap_or(rest.len()),
            b'/' if rest.starts_with("/*") => at += rest.find("*/").map_or(rest.len(), |end| end + 2),
            b'\'' => {
                at += quoted(&bytes[at..], b'\'', backslash);
                out.placeholder();
            }
            b'"' if has_double_quoted_text => {
                at += quoted(&bytes[at..], b'"', backslash);
                out.placeholder();
            }
            b'"' | b'`' => {
                let len = quoted(&bytes[at..], byte, Backslash::Nothing);
                out.word(&text[at..at + len]);
                at += len;
            }
            b'[' if bracketed(&bytes[at..], &out).is_some() => {
                let len = bracketed(&bytes[at..], &out).unwrap_or(1);
                out.word(&text[at..at + len]);
                at += len;
            }
            b'0'..=b'9' => {
                at += number(&bytes[at..]);
                out.placeholder();
            }
            b'.' if bytes.get(at + 1).is_some_and(u8::is_ascii_digit) && !(out.glue && out.ends_in_name()) => {
                at += 1 + number(&bytes[at + 1..]);
                out.placeholder();
            }
            b'$' if dollar_quoted(rest).is_some() => {
                at += dollar_quoted(rest).unwrap_or(1);
                out.placeholder();
            }
            b'?' => {
                at += 1 + bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
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
            // A temporary table of SQL Server.
            b'#' if bytes.get(at + 1).is_some_and(u8::is_ascii_alphabetic) && !out.glue => {
                let len = 1 + bytes[at + 1..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
                out.word(&text[at..at + len]);
                at += len;
            }
            _ if byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80 => {
                let word = |b: &&u8| b.is_ascii_alphanumeric() || **b == b'_' || **b >= 0x80 || **b == b'.';
                let len = bytes[at..].iter().take_while(word).count();
                let found = &text[at..at + len];
                // `N'text'`, `E'text'`, `X'ff'`: the letter belongs to the literal.
                if bytes.get(at + len) == Some(&b'\'') && matches!(found, "N" | "n" | "E" | "e" | "X" | "x" | "B" | "b")
                {
                    at += len;
                    continue;
                }
                match found.eq_ignore_ascii_case("TRUE") || found.eq_ignore_ascii_case("FALSE") {
                    true => out.placeholder(),
                    false => out.word(found),
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
    let mut done = out.text;
    done.truncate(done.trim_end_matches([';', ' ']).len());
    // Rows of an INSERT: `(?), (?)` are one.
    while let Some(at) = done.find("(?), (?)") {
        done.replace_range(at + 3..at + 8, "");
    }
    *into = done;
}

/// What a backslash within quotes does.
#[derive(Clone, Copy, PartialEq)]
enum Backslash {
    Nothing,
    /// It keeps a quote from closing the text, unless what follows is what follows a literal: some dialects know no
    /// backslashes.
    Perhaps,
    Escapes,
}

/// Length of a quoted text, its quotes included; a doubled quote keeps it open.
fn quoted(bytes: &[u8], quote: u8, backslash: Backslash) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        if bytes[at] == b'\\' && backslash != Backslash::Nothing {
            let is_end = backslash == Backslash::Perhaps
                && bytes.get(at + 1) == Some(&quote)
                && bytes.get(at + 2).is_none_or(|next| matches!(next, b',' | b')' | b';' | b' ' | b'\n'));
            at += if is_end { 1 } else { 2 };
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

/// Length of `[a name]` as SQL Server quotes them; `a[1]` is an element of an array.
fn bracketed(bytes: &[u8], out: &Tokens) -> Option<usize> {
    let len = bytes.iter().position(|byte| *byte == b']')? + 1;
    let within = bytes.get(1..len - 1)?;
    let is_name = match within.first()? {
        b'_' => true,
        // `[2nd]`, but not `[1, 2]` nor `[1:2]`.
        first if first.is_ascii_digit() => {
            let is_of_names = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b' ' | b'-');
            within.iter().any(u8::is_ascii_alphabetic) && within.iter().all(is_of_names)
        }
        first => first.is_ascii_alphabetic() || *first >= 0x80,
    };
    let is_element = out.glue && out.ends_in_name() && !out.text.ends_with('.');
    (is_name && !is_element).then_some(len)
}

/// Length of a number, an exponent with its sign included.
fn number(bytes: &[u8]) -> usize {
    let mut at = 0;
    let is_hex = bytes.first() == Some(&b'0') && matches!(bytes.get(1), Some(b'x' | b'X'));
    while let Some(byte) = bytes.get(at) {
        let is_exponent = !is_hex
            && matches!(byte, b'e' | b'E')
            && matches!(bytes.get(at + 1), Some(b'+' | b'-'))
            && bytes.get(at + 2).is_some_and(u8::is_ascii_digit);
        match byte {
            _ if is_exponent => at += 2,
            byte if byte.is_ascii_alphanumeric() || *byte == b'.' || *byte == b'_' => at += 1,
            _ => break,
        }
    }
    at
}

/// Length of `$$text$$` or `$tag$text$tag$`.
fn dollar_quoted(text: &str) -> Option<usize> {
    let tag_len = text[1..].find('$')? + 2;
    let tag = &text[..tag_len];
    let is_tag = tag[1..tag_len - 1].bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !tag.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
    if !is_tag {
        return None;
    }
    Some(text[tag_len..].find(tag).map_or(text.len(), |end| tag_len + end + tag_len))
}

struct Tokens {
    text: String,
    /// The next token follows without a space, as far as it may.
    glue: bool,
}

impl Tokens {
    fn ends_in_name(&self) -> bool {
        self.text.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ']' | '"' | '`' | '.'))
    }

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
        if self.ends_in_sign() {
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

    /// A sign belongs to the literal behind it, unless something stands before it from which is taken away.
    fn ends_in_sign(&self) -> bool {
        const BEFORE: [&str; 20] = [
            "AND", "BETWEEN", "BY", "CASE", "ELSE", "IN", "LIKE", "LIMIT", "NOT", "OFFSET", "OR", "RETURN", "SELECT",
            "SET", "THEN", "VALUES", "WHEN", "REGEXP", "GLOB", "INTERVAL",
        ];
        let Some(before) = self.text.strip_suffix(['-', '+']) else { return false };
        let before = before.trim_end();
        let word = before.rsplit(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '.' | '"' | '`' | ']')).next();
        before.ends_with(['=', '<', '>', '(', '[', ',', '*', '/', '%', '|', '~', '&', '#'])
            || word.is_some_and(|word| BEFORE.iter().any(|known| known.eq_ignore_ascii_case(word)))
    }

    fn punctuation(&mut self, sign: &str) {
        let glues =
            matches!(sign, "," | ")" | ";" | "." | "::") || (sign == "(" && self.glue && !self.text.ends_with(' '));
        let is_pair = self.glue && is_operator_pair(&self.text, sign);
        if !glues && !is_pair && !self.text.is_empty() && !self.text.ends_with(['(', ' ']) {
            self.text.push(' ');
        }
        self.text.push_str(sign);
        self.glue = true;
    }
}

/// `<=`, `<>`, `||`, `->`, `@>`, `:=`: no space between the two. A sign begins something of its own.
fn is_operator_pair(text: &str, sign: &str) -> bool {
    const SIGNS: &str = "<>!=|@#&~*:^%/";
    text.ends_with(|last| SIGNS.contains(last) || last == '-') && SIGNS.contains(sign)
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
    fn statements_that_differ_in_numbers_look_alike() {
        let alike = |text: &str| {
            let mut out = String::new();
            put_alike(text, &mut out).then_some(out)
        };
        for (text, expected) in [
            ("SELECT a FROM t1 WHERE id = 4711 AND b IN (1,22)", Some("SELECT a FROM t1 WHERE id = 1 AND b IN (1,1)")),
            ("SELECT 0x1f, 00x1f, 1.25, $12, t.5", Some("SELECT 0x1f, 1x1f, 1.25, $1, t.5")),
            ("SELECT \"2020\" FROM t", None),
            ("SELECT [2nd] FROM t", None),
        ] {
            assert_eq!(alike(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn commands_and_documents_lose_their_values() {
        for (text, expected) in [
            ("GET cart:5", "GET cart:{id}"),
            ("SET user:42 {\"a\": 1} EX 60", "SET user:{id} ?"),
            ("MGET a:1 a:2 a:3", "MGET a:{id} ?"),
            ("PING", "PING"),
        ] {
            assert_eq!(command(text), expected, "{text}");
        }
        for (text, expected) in [
            (
                r#"{"find": "carts", "filter": {"_id": 7, "ok": true}}"#,
                r#"{"find": "carts", "filter": {"_id": ?, "ok": ?}}"#,
            ),
            (
                r#"{"find": "carts", "filter": {"_id": {"$in": [1, 2, 3]}}}"#,
                r#"{"find": "carts", "filter": {"_id": {"$in": [?]}}}"#,
            ),
            (
                r#"{"aggregate":"t","pipeline":[{"$match":{"a":"x\"y"}}"#,
                r#"{"aggregate":"t","pipeline":[{"$match":{"a":?}}"#,
            ),
            (r#"{"find": "cut", "filter": {"name": "unfini"#, r#"{"find": "cut", "filter": {"name": ?"#),
        ] {
            assert_eq!(document(text), expected, "{text}");
        }
    }

    #[test]
    fn double_quotes_are_texts_where_the_database_says_so() {
        let text = r#"SELECT "a" FROM `t` WHERE b = "it's \" 5" AND c IN ("x", -5)"#;
        assert_eq!(sql_with_double_quotes(text), "SELECT ? FROM `t` WHERE b = ? AND c IN (?)");
        assert_eq!(sql(r#"SELECT "a" FROM t WHERE "b" = 5"#), r#"SELECT "a" FROM t WHERE "b" = ?"#);
        assert!(has_double_quoted_text("MySQL") && !has_double_quoted_text("postgresql"));
    }

    #[test]
    fn signs_belong_to_their_literals() {
        for (text, expected) in [
            ("SELECT a - 5 FROM t WHERE b = -5", "SELECT a - ? FROM t WHERE b = ?"),
            ("SELECT -1 FROM t LIMIT -1", "SELECT ? FROM t LIMIT ?"),
            ("SELECT a FROM t WHERE b IN (1, -2, +3) AND c > -4", "SELECT a FROM t WHERE b IN (?) AND c > ?"),
            ("SELECT f(a) -5 FROM t", "SELECT f(a) -? FROM t"),
            ("SELECT 5 # why\n FROM #tmp WHERE a #> '{b}'", "SELECT ? FROM #tmp WHERE a #> ?"),
        ] {
            assert_eq!(sql(text), expected, "{text}");
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
            ("SELECT [id] FROM [dbo].[items] WHERE [id] = @p1", "SELECT [id] FROM [dbo].[items] WHERE [id] = ?"),
            ("SELECT tags[1] FROM t WHERE a = ARRAY[1,2]", "SELECT tags [ ? ] FROM t WHERE a = ARRAY [ ? ]"),
            (
                "SELECT a FROM t WHERE n = N'x' AND e = E'it\\'s' AND b = 1.5e-3",
                "SELECT a FROM t WHERE n = ? AND e = ? AND b = ?",
            ),
            ("SELECT a FROM t WHERE p = 'C:\\' AND q = 2", "SELECT a FROM t WHERE p = ? AND q = ?"),
            ("SELECT $tag$it's$tag$, $1 FROM t", "SELECT ? FROM t"),
            ("SELECT a FROM t WHERE id = :1 AND x = :name", "SELECT a FROM t WHERE id = ? AND x = ?"),
            ("SELECT a FROM t WHERE x < .5 AND t.y = 0xFF", "SELECT a FROM t WHERE x < ? AND t.y = ?"),
        ] {
            assert_eq!(sql(text), expected, "{text}");
        }
        assert_eq!(sql("SELECT ü FROM t WHERE a = 'ß'"), "SELECT ü FROM t WHERE a = ?");
        assert!(is_sql(" select 1") && is_sql("WITH x AS (SELECT 1)") && !is_sql("GET user:1") && !is_sql("selection"));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]

        #[test]
        fn statements_that_look_alike_become_the_same(
            text in "([a-z]{0,2}[0-9]{0,3}|[-\\[\\]'$:@?%(),.#/*;+=<> \n\\\\]|0x1e|1e-|N'|--|::|\\$\\$|SELECT|IN){0,24}",
            other in "[0-9]{1,3}",
        ) {
            let (mut alike, mut same, mut is_before_word) = (String::new(), String::new(), false);
            let is_kept = put_alike(&text, &mut alike);
            // The same with other numbers wherever one may be another.
            let mut others = String::new();
            for part in text.split_inclusive(|c: char| !c.is_ascii_digit()) {
                let digits = part.trim_end_matches(|c: char| !c.is_ascii_digit());
                let is_other = !digits.is_empty() && !is_before_word;
                others.push_str(if is_other { &other } else { digits });
                others.push_str(&part[digits.len()..]);
                is_before_word = part.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '.'));
            }
            if is_kept && put_alike(&others, &mut same) && alike == same {
                proptest::prop_assert_eq!(sql(&text), sql(&others));
                proptest::prop_assert_eq!(sql_with_double_quotes(&text), sql_with_double_quotes(&others));
            }
        }

        #[test]
        fn nothing_panics_on_any_text(text in "\\PC{0,60}", more in "[\\[\\]'\"`$:@%?(),.0-9eEx a-z\\\\-]{0,60}") {
            for text in [&text, &more] {
                let _ = (path(text), name(text), command(text), document(text), is_sql(text));
                assert_eq!(words(text).collect::<Vec<_>>(), text.split_whitespace().collect::<Vec<_>>());
                // What is left can be read again.
                let _ = sql(&sql(text));
            }
        }
    }
}
