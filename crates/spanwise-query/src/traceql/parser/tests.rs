use super::*;

/// The shapes of Tempo's grammar, those of its own tests' kinds, and what Grafana's Drilldown sends.
#[test]
fn what_is_traceql_parses() {
    for query in [
        "{}",
        "{ }",
        "{ .a }",
        "{ name = \"GET /\" && duration > 1.5s }",
        "{ resource.service.name =~ \"cart|pay.*\" || span.http.status_code >= 500 }",
        "{ span.\"a b\".c = `raw` }",
        "{ .http/route+x[0] != nil } && { status = error }",
        "({ kind = server } || { kind = client }) && { trace:rootName = \"x\" }",
        "{ !(.x = 1) && -.y < 2 ^ 3 ^ 2 * 1 }",
        "{ 1 < 1h } // comment",
        "{ /* c */ status = 2 }",
        "{ event:name = \"exception\" && instrumentation:version != \"1\" }",
        "{ nil = .a || .b != nil || nil = nil }",
        "{ .a >= minInt && .b < maxInt && .c = .9 && .d = 1h30m }",
        "{ parent.a = 1 && parent.span.b = `x` && parent.resource.service.name = `y` && parent.duration > 1s }",
        "{ parent = nil } || { parent.\"a b\" != nil }",
        "{} > {} >> {} < {} << {} ~ {}",
        "{} !> {} !>> {} !< {} !<< {} !~ {}",
        "{} &> {} &>> {} &< {} &<< {} &~ {}",
        "{} && {} >> {} || ({} ~ ({} && {}))",
        "{} | {} | { .a } && { .b }",
        "{} | count() > 2 | avg(duration) <= 1.5s | by(resource.service.name) | coalesce()",
        "{} | 3 < count() | min(.a) + 2 * max(.b) ^ 2 != -1 | sum(span.bytes / 8) > 1 | (count() + 1) % 2 = 0",
        "{} | min(.a) < max(.b)",
        "{} | by(.a * 2) | by(span.b && .c)",
        "{} | select(.a, span.b, resource.c, status, parent.d)",
        "({} | count() > 1) && ({ .b } | avg(duration) > 1s) >> {}",
        "{} | rate()",
        "{} | rate() by (resource.service.name, .b, name, status, kind)",
        "{ status = error } >> {} | count_over_time() by(span.http.route) with(sample=true, exemplars=5)",
        "{} | min_over_time(duration) | topk(5)",
        "{} | max_over_time(span.a) by (.b) > 0 | bottomk(2) < 1s",
        "{} | sum_over_time(.a) | topk(10) | bottomk(1)",
        "{} | quantile_over_time(duration, .99, 0.9, 0.5, 1) by (name)",
        "{} | histogram_over_time(duration) with(sample=true)",
        "{} | compare({ status = error })",
        "{} | compare({}, 10, 1000, 2000)",
        "({} | rate()) / ({ status = error } | rate())",
        "2 * ({} | rate() by (.a)) - (({} | count_over_time()) + 1.5) / -3",
        "(({} | rate()) + ({} | rate())) | topk(3)",
        "(({} || { .a }) | rate()) * 100 > 5",
        "{nestedSetParent<0 && true} | rate() by(resource.x)",
        "({nestedSetParent<0} &>> { status = error }) || ({nestedSetParent<0}) | select(status, \
         resource.service.name, name, nestedSetParent, nestedSetLeft, nestedSetRight)",
        "{ status = error } | select(resource.service.name, event.exception.message, event.exception.type) \
         with(most_recent=true)",
        "{} with(a=`b`, c=1h, d=-2) with(e=false)",
    ] {
        assert!(parse(query).is_ok(), "{query}: {:?}", parse(query).err());
    }
}

#[test]
fn what_is_not_says_where_and_why() {
    for (query, offset, part) in [
        ("", 0, "expected \"{\""),
        ("name = 1", 0, "expected \"{\""),
        ("{ name = }", 9, "unexpected \"}\""),
        ("{ nmae = \"x\" }", 2, "unexpected \"nmae\""),
        ("{ name = 1 }", 7, "cannot compare a string with a number"),
        ("{ status > ok }", 9, "no order"),
        ("{ duration = nil }", 11, "never nil"),
        ("{ name =~ \"(\" }", 10, "regular expression cannot be used"),
        ("{ name = \"x }", 9, "does not end"),
        ("{ .a == 1 }", 5, "=="),
        ("{ duration }", 2, "true or false"),
        ("{ .a = 5 parsecs }", 9, "unexpected"),
        ("{ duration > 5parsecs }", 13, "not a number or duration"),
        ("{} = {}", 3, "unexpected \"=\""),
        ("{} | count()", 12, "expected a comparison"),
        ("{} | count() == 1", 13, "=="),
        ("{} | 1 > 2", 5, "neither side is an aggregate"),
        ("{} | select()", 12, "expected a value, an attribute"),
        ("{} | select(.a + 1)", 15, "expected \")\""),
        ("{} | avg(name) > 1", 9, "expected a number or duration"),
        ("{} | frobnicate()", 5, "a stage of the pipeline"),
        ("{} | topk(5)", 5, "cannot follow a search"),
        ("{} | rate() + 5", 12, "unexpected \"+\""),
        ("({} | rate()) % 2", 14, "unexpected \"%\""),
        ("({} | rate()) && {}", 14, "unexpected \"&&\""),
        ("({} | count()) + ({} | count()) = 1", 6, "is not executed yet"),
        ("{} | quantile_over_time(duration)", 32, "a quantile"),
        ("{} | quantile_over_time(duration, 2)", 34, "between 0 and 1"),
        ("{} | rate() by (.a, .b, .c, .d, .e, .f)", 12, "at most 5"),
        ("{} | rate() | topk(0)", 19, "at least one"),
        ("{} | rate() | {}", 14, "topk(n) or bottomk(n)"),
        ("{} with(1=2)", 8, "the name of a hint"),
        ("{} >> ", 6, "expected \"{\""),
        ("{} | compare({}, 0)", 17, "1 to 1000"),
    ] {
        let error = parse(query).map(|_| query).unwrap_err();
        assert!(error.message.contains(part), "{query}: {error}");
        assert_eq!(error.offset, offset, "{query}: {error}");
    }
    for deep in [
        format!("{{ {} true {} }}", "(".repeat(1000), ")".repeat(1000)),
        format!("{} {{}} {}", "(".repeat(1000), ")".repeat(1000)),
        format!("{} {{}} | rate() {}", "(".repeat(1000), ")".repeat(1000)),
        format!("{{}} | {} 1 {} > count()", "(".repeat(1000), ")".repeat(1000)),
    ] {
        assert!(parse(&deep).unwrap_err().message.contains("deeply"));
    }
    for long in [
        format!("{{ .a{} }}", " || .a".repeat(2000)),
        format!("{{}}{}", " >> {}".repeat(2000)),
        format!("{{ .a = 1{} }}", " + 1".repeat(2000)),
        format!("{{}} | count(){} > 1", " + 1".repeat(2000)),
        format!("({{}} | rate()){}", " > 1".repeat(2000)),
    ] {
        assert!(parse(&long).unwrap_err().message.contains("operators"));
    }
}

#[test]
fn structure_binds_closer_than_and() {
    use crate::traceql::ast::{Root, Spanset, SpansetOperator, Stage};
    let Root::Search(pipeline) = parse("{} && {} >> {}").unwrap().root else { panic!("a search") };
    let [Stage::Spanset(Spanset::Operation(operator, _, right))] = pipeline.stages.as_slice() else {
        panic!("{pipeline:?}")
    };
    assert_eq!(*operator, SpansetOperator::And);
    assert!(matches!(&**right, Spanset::Operation(SpansetOperator::Structural(..), ..)));
}

#[test]
fn labels_are_written_as_tempo_does() {
    for (query, expected) in [
        ("{ span:duration > 1500us && trace:rootName = \"x\" }", "duration rootName"),
        ("{ resource.service.name = \"a\" && .b && span.\"c d\" = 1 }", "resource.service.name .b span.\"c d\""),
        ("{ trace:id = \"1\" } | select(status, event:name, name)", "trace:id status event:name name"),
    ] {
        let Root::Search(pipeline) = parse(query).unwrap().root else { panic!("a search") };
        let fields: Vec<String> = pipeline.fields().iter().map(ToString::to_string).collect();
        assert_eq!(fields.join(" "), expected);
    }
    use crate::traceql::ast::Root;
    let Root::Search(pipeline) = parse("{ trace:id = \"Ab\" }").unwrap().root else { panic!("a search") };
    assert!(format!("{pipeline:?}").contains("000000000000000000000000000000ab"));
}
