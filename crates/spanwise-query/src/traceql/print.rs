//! Parts of a query as text, the way Tempo writes them: labels of series and of spansets are made of it.

use std::fmt::{Display, Formatter, Result};

use super::ast::{Arithmetic, Compare, Expr, Intrinsic, Literal, Scalar, Scope};

pub const STATUS: [&str; 3] = ["unset", "ok", "error"];
pub const KIND: [&str; 6] = ["unspecified", "internal", "server", "client", "producer", "consumer"];

pub fn word(words: &[&'static str], number: u8) -> &'static str {
    words.get(usize::from(number)).copied().unwrap_or("unspecified")
}

impl Display for Intrinsic {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        // The name without a scope where there is one.
        let names = Intrinsic::NAMES.iter().find(|(known, _)| known == self);
        f.write_str(names.and_then(|(_, names)| names.last()).unwrap_or(&""))
    }
}

impl Display for Scope {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Scope::Any => ".",
            Scope::Span => "span.",
            Scope::Resource => "resource.",
            Scope::Event => "event.",
            Scope::Link => "link.",
            Scope::Instrumentation => "instrumentation.",
        })
    }
}

impl Display for Compare {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Compare::Eq => "=",
            Compare::NotEq => "!=",
            Compare::Less => "<",
            Compare::LessEq => "<=",
            Compare::Greater => ">",
            Compare::GreaterEq => ">=",
        })
    }
}

impl Display for Arithmetic {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Arithmetic::Add => "+",
            Arithmetic::Sub => "-",
            Arithmetic::Mul => "*",
            Arithmetic::Div => "/",
            Arithmetic::Mod => "%",
            Arithmetic::Pow => "^",
        })
    }
}

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Literal::Nil => f.write_str("nil"),
            Literal::String(text) => write!(f, "`{text}`"),
            Literal::Int(value) => write!(f, "{value}"),
            Literal::Float(value) => write!(f, "{value}"),
            Literal::Duration(nanos) => f.write_str(&duration(*nanos)),
            Literal::Bool(value) => write!(f, "{value}"),
            Literal::Status(status) => f.write_str(word(&STATUS, *status)),
            Literal::Kind(kind) => f.write_str(word(&KIND, *kind)),
        }
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Expr::Literal(literal) => write!(f, "{literal}"),
            Expr::Attribute(scope, key) => {
                let is_plain = !key.chars().any(|c| c.is_whitespace() || "{}()=~!<>&|^,\"\\".contains(c));
                match is_plain {
                    true => write!(f, "{scope}{key}"),
                    false => write!(f, "{scope}\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\"")),
                }
            }
            Expr::Intrinsic(intrinsic) => write!(f, "{intrinsic}"),
            Expr::Parent(inner) => match &**inner {
                Expr::Attribute(Scope::Any, _) => write!(f, "parent{inner}"),
                inner => write!(f, "parent.{inner}"),
            },
            Expr::And(left, right) => write!(f, "({left}) && ({right})"),
            Expr::Or(left, right) => write!(f, "({left}) || ({right})"),
            Expr::Not(inner) => write!(f, "!({inner})"),
            Expr::Negate(inner) => write!(f, "-{inner}"),
            Expr::Compare(compare, left, right) => write!(f, "{left} {compare} {right}"),
            Expr::Match { negated, operand, regex } => {
                let text = regex.as_str();
                let text = text.strip_prefix("^(?:").and_then(|text| text.strip_suffix(")$")).unwrap_or(text);
                write!(f, "{operand} {} `{text}`", if *negated { "!~" } else { "=~" })
            }
            Expr::Exists { negated, operand } => write!(f, "{operand} {} nil", if *negated { "=" } else { "!=" }),
            Expr::Arithmetic(operator, left, right) => write!(f, "({left} {operator} {right})"),
        }
    }
}

impl Display for Scalar {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Scalar::Literal(literal) => write!(f, "{literal}"),
            Scalar::Aggregate(aggregate, None) => write!(f, "{}()", aggregate.name()),
            Scalar::Aggregate(aggregate, Some(operand)) => write!(f, "{}({operand})", aggregate.name()),
            Scalar::Arithmetic(operator, left, right) => write!(f, "({left} {operator} {right})"),
        }
    }
}

/// As Go prints durations: `1h2m3.5s`, `1.5ms`, `20ns`, `0s`.
pub fn duration(nanos: i64) -> String {
    let magnitude = nanos.unsigned_abs();
    let sign = if nanos < 0 { "-" } else { "" };
    let decimal = |value: u64, unit: u64| {
        let (whole, rest) = (value / unit, value % unit);
        let digits = unit.ilog10() as usize;
        let fraction = format!("{rest:0digits$}");
        let fraction = fraction.trim_end_matches('0');
        if rest == 0 { whole.to_string() } else { format!("{whole}.{fraction}") }
    };
    match magnitude {
        0 => "0s".to_owned(),
        1..=999 => format!("{sign}{magnitude}ns"),
        1_000..=999_999 => format!("{sign}{}µs", decimal(magnitude, 1_000)),
        1_000_000..=999_999_999 => format!("{sign}{}ms", decimal(magnitude, 1_000_000)),
        _ => {
            let seconds = magnitude / 1_000_000_000;
            let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
            let rest = decimal(magnitude - (hours * 3_600 + minutes * 60) * 1_000_000_000, 1_000_000_000);
            match (hours, minutes) {
                (0, 0) => format!("{sign}{rest}s"),
                (0, minutes) => format!("{sign}{minutes}m{rest}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{rest}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_go() {
        for (nanos, text) in [
            (0, "0s"),
            (20, "20ns"),
            (1_500, "1.5µs"),
            (-1_050_000, "-1.05ms"),
            (2_000_000_000, "2s"),
            (3_723_500_000_000, "1h2m3.5s"),
            (60_000_000_000, "1m0s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(duration(nanos), text);
        }
    }
}
