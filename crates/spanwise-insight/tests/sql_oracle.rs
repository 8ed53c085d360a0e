//! The lexer of statements against `sqlparser`'s: what that reads as a literal or a parameter is folded, and what it
//! reads as anything else stays, word by word, in five dialects.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;
use spanwise_insight::normalize::{sql, sql_with_double_quotes};
use sqlparser::dialect::{self, Dialect};
use sqlparser::tokenizer::{Token, Tokenizer};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Db {
    Generic,
    Postgres,
    MySql,
    Sqlite,
    MsSql,
}

const ALL: [Db; 5] = [Db::Generic, Db::Postgres, Db::MySql, Db::Sqlite, Db::MsSql];

impl Db {
    /// The statement as the lexer reads it for a database of this kind.
    fn normal(self, text: &str) -> String {
        if self == Db::MySql { sql_with_double_quotes(text) } else { sql(text) }
    }

    fn dialect(self) -> &'static dyn Dialect {
        match self {
            Db::Generic => &dialect::GenericDialect {},
            Db::Postgres => &dialect::PostgreSqlDialect {},
            Db::MySql => &dialect::MySqlDialect {},
            Db::Sqlite => &dialect::SQLiteDialect {},
            Db::MsSql => &dialect::MsSqlDialect {},
        }
    }
}

fn tokens(db: Db, text: &str) -> Vec<Token> {
    Tokenizer::new(db.dialect(), text).tokenize().unwrap_or_else(|error| panic!("{db:?} {text}: {error}"))
}

fn is_literal(token: &Token) -> bool {
    match token {
        Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::DollarQuotedString(_)
        | Token::SingleQuotedByteStringLiteral(_)
        | Token::NationalStringLiteral(_)
        | Token::EscapedStringLiteral(_)
        | Token::UnicodeStringLiteral(_)
        | Token::HexStringLiteral(_)
        | Token::Placeholder(_)
        | Token::Question => true,
        Token::Word(word) => {
            let is_constant = word.value.eq_ignore_ascii_case("true") || word.value.eq_ignore_ascii_case("false");
            word.quote_style.is_none() && (is_constant || word.value.starts_with('@'))
        }
        _ => false,
    }
}

/// Something from which the literal behind a sign could be taken away.
fn is_operand(token: &str) -> bool {
    const KEYWORDS: [&str; 10] =
        ["LIKE", "THEN", "ELSE", "BETWEEN", "AND", "LIMIT", "REGEXP", "GLOB", "WHEN", "INTERVAL"];
    let is_name = token.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '"' | '`' | '['));
    matches!(token, ")" | "]" | "?") || (is_name && token != "[" && !KEYWORDS.contains(&token))
}

/// Tokens as `sqlparser` reads them, literals as `?`, then folded as the lexer promises: a sign belongs to its number,
/// a list of literals is one, and so are rows of them.
fn folded(db: Db, text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for token in tokens(db, text) {
        if matches!(token, Token::Whitespace(_) | Token::SemiColon | Token::EOF) {
            continue;
        }
        if !is_literal(&token) {
            out.push(token.to_string());
            continue;
        }
        if let [.., before, sign] = &out[..]
            && sign == "-"
            && !is_operand(before)
        {
            out.pop();
        }
        if out.ends_with(&["?".to_owned(), ",".to_owned()]) {
            out.pop();
        } else {
            out.push("?".to_owned());
        }
    }
    let rows = ["(", "?", ")", ",", "(", "?", ")"];
    while let Some(at) = out.windows(rows.len()).position(|window| window == rows) {
        out.drain(at + 3..at + rows.len());
    }
    out
}

/// One literal, in as many ways as a dialect has.
fn literal(db: Db) -> BoxedStrategy<String> {
    let quoted = "[a-z '?;:,()\"$@#%*/<>=-]{0,12}".prop_map(|text| format!("'{}'", text.replace('\'', "''")));
    let number = prop_oneof![
        (0u32..100_000).prop_map(|number| number.to_string()),
        (0u32..1_000, 0u32..1_000).prop_map(|(whole, part)| format!("{whole}.{part}")),
        (1u32..1_000, -20i32..20).prop_map(|(number, exponent)| format!("{number}e{exponent}")),
        (1u32..1_000).prop_map(|number| format!("-{number}")),
        (1u32..1_000).prop_map(|number| format!(".{number}")),
    ];
    let mut ways: Vec<BoxedStrategy<String>> = vec![
        number.boxed(),
        quoted.clone().boxed(),
        select(vec!["TRUE", "false"]).prop_map(str::to_owned).boxed(),
        "[0-9a-f]{2,8}".prop_map(|hex| format!("X'{hex}'")).boxed(),
    ];
    match db {
        Db::Generic => {}
        Db::Postgres => {
            ways.push((1u32..30).prop_map(|number| format!("${number}")).boxed());
            ways.push("[a-z ']{0,8}".prop_map(|text| format!("$${text}$$")).boxed());
            ways.push(("[a-z]{1,4}", "[a-z ']{0,6}").prop_map(|(tag, text)| format!("${tag}${text}${tag}$")).boxed());
            ways.push("[a-z]{0,4}".prop_map(|text| format!("E'{text}\\'s \\\\ {text}'")).boxed());
        }
        Db::MySql => {
            ways.push(Just("?".to_owned()).boxed());
            ways.push("[a-z]{0,4}".prop_map(|text| format!("'{text}\\'s \\\\ {text}'")).boxed());
            ways.push("[a-z ';,]{0,8}".prop_map(|text| format!("\"{text}\"")).boxed());
            ways.push("[0-9A-F]{2,8}".prop_map(|hex| format!("0x{hex}")).boxed());
            ways.push("[a-z]{1,4}".prop_map(|text| format!("N'{text}'")).boxed());
        }
        Db::Sqlite => {
            ways.push(Just("?".to_owned()).boxed());
            ways.push((1u32..9).prop_map(|number| format!("?{number}")).boxed());
        }
        Db::MsSql => {
            ways.push((0u32..9).prop_map(|number| format!("@p{number}")).boxed());
            ways.push(quoted.prop_map(|text| format!("N{text}")).boxed());
            ways.push("[0-9A-F]{2,8}".prop_map(|hex| format!("0x{hex}")).boxed());
        }
    }
    Union::new(ways).boxed()
}

fn name(db: Db) -> BoxedStrategy<String> {
    const PLAIN: [&str; 12] =
        ["id", "user_id", "t1", "Orders", "total2", "x", "N", "e", "b1", "naïve", "_k", "order_items"];
    const QUOTED: [&str; 8] = ["we ird", "select", "2nd", "it's", "a.b", "x-y", "q?", "true"];
    let quoted = select(&QUOTED[..]).prop_map(move |name| match db {
        Db::MySql => format!("`{name}`"),
        Db::MsSql => format!("[{name}]"),
        _ => format!("\"{name}\""),
    });
    let one = prop_oneof![4 => select(&PLAIN[..]).prop_map(str::to_owned), 1 => quoted];
    prop_oneof![3 => one.clone(), 1 => (one.clone(), one).prop_map(|(of, name)| format!("{of}.{name}"))].boxed()
}

/// Stands for a literal.
const LITERAL: &str = "\u{1}";

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(|word| if word == "%" { LITERAL } else { word }.to_owned()).collect()
}

/// Parts with a word between each two.
fn joined(between: &'static str, parts: Vec<Vec<String>>) -> Vec<String> {
    let mut out = Vec::new();
    for (at, part) in parts.into_iter().enumerate() {
        out.extend((at > 0).then(|| between.to_owned()));
        out.extend(part);
    }
    out
}

/// What one dialect alone has.
fn special(db: Db) -> BoxedStrategy<Vec<String>> {
    let all: &[&str] = match db {
        Db::Postgres => &[
            "data ->> % = %",
            "data #> % IS NULL",
            "x :: int = %",
            "tags && ARRAY[ % , % ]",
            "t ~ %",
            "a [ 1 ] = %",
            "n . c [ 2 ] = %",
            "at > now ( ) - INTERVAL %",
            "id = ANY ( % )",
            "a || b = %",
            "x @> %",
        ],
        Db::MySql => &["a <=> %", "d > NOW ( ) - INTERVAL % DAY", "a REGEXP %", "a . b = %", "a := %"],
        Db::Sqlite => &["a GLOB %", "data ->> % = %", "x = CAST ( % AS INT )", "a || b = %"],
        Db::MsSql => {
            &["a = CONVERT ( int , % )", "[dbo].[t].[x-y] = %", "#tmp . id = %", "a IN ( SELECT TOP ( % ) b FROM c )"]
        }
        Db::Generic => &["a = CAST ( % AS VARCHAR ( 10 ) )", "EXISTS ( SELECT 1 FROM b WHERE c = % )", "a - 5 > %"],
    };
    select(all).prop_map(words).boxed()
}

/// A statement in pieces.
fn statement(db: Db) -> BoxedStrategy<Vec<String>> {
    let one = move || name(db).prop_map(|name| vec![name]);
    let columns = proptest::collection::vec(one(), 1..4).prop_map(|names| joined(",", names));
    let literals =
        (1usize..5).prop_map(|count| [words("("), joined(",", vec![words("%"); count]), words(")")].concat());
    let operator = select(vec!["=", "<", ">", "<=", ">=", "<>", "!="]);
    let condition = prop_oneof![
        4 => (one(), operator).prop_map(|(name, operator)| [name, words(operator), words("%")].concat()),
        2 => (one(), literals.clone()).prop_map(|(name, list)| [name, words("IN"), list].concat()),
        1 => one().prop_map(|name| [name, words("BETWEEN % AND %")].concat()),
        1 => one().prop_map(|name| [name, words("IS NOT NULL")].concat()),
        1 => one().prop_map(|name| [words("lower ("), name, words(") LIKE %")].concat()),
        1 => (one(), one()).prop_map(|(a, b)| [a, words("="), b].concat()),
        1 => one().prop_map(|name| [name.clone(), words("+ 1 > CASE WHEN"), name, words("= % THEN % ELSE % END")].concat()),
        1 => special(db),
    ];
    let conditions = proptest::collection::vec(condition, 1..4).prop_map(|all| joined("AND", all));
    let rows = proptest::collection::vec(literals, 1..4).prop_map(|rows| joined(",", rows));
    prop_oneof![
        (columns.clone(), one(), conditions.clone(), any::<bool>()).prop_map(|(columns, table, all, is_limited)| {
            let tail = if is_limited { words("ORDER BY id DESC LIMIT %") } else { Vec::new() };
            [words("SELECT"), columns, words("FROM"), table, words("WHERE"), all, tail].concat()
        }),
        (one(), columns, rows).prop_map(|(table, columns, rows)| {
            [words("INSERT INTO"), table, words("("), columns, words(") VALUES"), rows].concat()
        }),
        (one(), one(), conditions.clone()).prop_map(|(table, column, all)| {
            [words("UPDATE"), table, words("SET"), column, words("= % WHERE"), all].concat()
        }),
        (one(), conditions).prop_map(|(table, all)| [words("DELETE FROM"), table, words("WHERE"), all].concat()),
    ]
    .boxed()
}

/// The pieces as one text: literals in their places, and between pieces what a dialect lets stand there.
fn written(db: Db, pieces: &[String], literals: &[String], gaps: &[u8]) -> String {
    let mut literals = literals.iter().cycle();
    let mut gaps = gaps.iter().cycle();
    let mut out = String::new();
    for (at, piece) in pieces.iter().enumerate() {
        if at > 0 {
            let may_touch = |text: &str| ["(", ")", ",", "="].contains(&text);
            // Whether a parenthesis touches the word before it is kept as it is written.
            let touches =
                piece != "(" && (may_touch(piece) || pieces.get(at - 1).is_some_and(|before| may_touch(before)));
            out.push_str(match gaps.next().unwrap() % 12 {
                0 => "\n\t ",
                1 => " /* it's ? 5 */ ",
                2 => " -- won't = 7\n",
                3 if db == Db::MySql => " # won't = 7\n",
                4..=6 if touches => "",
                _ => " ",
            });
        }
        out.push_str(if piece == LITERAL { literals.next().unwrap() } else { piece });
    }
    out
}

#[derive(Debug, Clone)]
struct Case {
    db: Db,
    pieces: Vec<String>,
    literals: [Vec<String>; 2],
    gaps: [Vec<u8>; 2],
}

fn case() -> impl Strategy<Value = Case> {
    select(&ALL[..]).prop_flat_map(|db| {
        let literals = move || proptest::collection::vec(literal(db), 8);
        let gaps = || proptest::collection::vec(any::<u8>(), 16);
        (statement(db), [literals(), literals()], [gaps(), gaps()]).prop_map(move |(pieces, literals, gaps)| Case {
            db,
            pieces,
            literals,
            gaps,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_oracle_reads_as_literals_is_folded_and_nothing_else(case in case()) {
        let Case { db, pieces, literals, gaps } = case;
        let text = written(db, &pieces, &literals[0], &gaps[0]);
        let ours = db.normal(&text);
        prop_assert_eq!(folded(db, &ours), folded(db, &text), "{:?}: {} became {}", db, text, ours);
        let is_left = |token: &Token| is_literal(token) && !matches!(token, Token::Question | Token::Placeholder(_));
        let left: Vec<Token> = tokens(db, &ours).into_iter().filter(is_left).collect();
        prop_assert!(left.is_empty(), "{:?}: {} became {}, with {:?} in it", db, text, ours, left);
        // Other values, line ends and comments: the same name.
        let other = written(db, &pieces, &literals[1], &gaps[1]);
        prop_assert_eq!(db.normal(&other), ours, "{:?}: {} and {}", db, other, text);
    }
}
