//! Programs of four runtimes, started by `spanwise run` alone, call each other over HTTP, gRPC, SQL, Redis and Kafka.

use std::path::Path;

use serde_json::Value as Json;

use super::harness::{Server, request};
use super::run::service;
use super::run_brokers::{Broker, Redis};
use super::run_programs::{Run, below, find, get, one, rust_shop, spans, spans_of};

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Front (Node.js, ES module) → stock (Python) → audit (Node.js, CommonJS), price (Java) and payment (Rust), which
/// announces each payment on a topic; audit makes an invoice of it, which invoices (Java) and payment read.
struct Stack {
    server: Server,
    programs: Vec<(&'static str, Run)>,
    front: u16,
    stock: u16,
    price: u16,
    payment: u16,
    // Ended last.
    _brokers: (Broker, Redis),
}

impl Stack {
    fn start(home: &Path) -> Stack {
        let server = Server::start(&home.join("data"), &[]);
        let payment = rust_shop();
        let (broker, redis) = (Broker::start(), Redis::start());
        let kafka = ("KAFKA", broker.address.clone());
        let start = |name, words: &[&str], variables: &[(&str, String)]| service(home, &server, name, words, variables);
        // It makes the topics: the others come after it.
        let mut audit = start("audit", &["node", "audit.cjs"], &[("GRPC", "1".to_owned()), kafka.clone()]);
        let audit_grpc: u16 = audit.wait_for("GRPC", |line| line.strip_prefix("GRPC ")?.parse().ok());
        let audit_url = url(audit.port());
        let auth = [("AUTH_URL", audit_url.clone()), ("REDIS_URL", redis.url.clone()), kafka.clone()];
        let mut payment = start("payment", &[payment.to_str().unwrap()], &auth);
        let mut invoices =
            start("invoices", &["java", "-cp", "classes:jars/*", "Invoices"], std::slice::from_ref(&kafka));
        let mut price = start("price", &["java", "-jar", "price.jar"], &[("AUDIT_URL", audit_url)]);
        let payment_url = payment.wait_for("address", |line| line.starts_with("http://").then(|| line.to_owned()));
        let price_port = price.port();
        let addresses = [
            ("PRICE_URL", url(price_port)),
            ("PAYMENT_URL", payment_url.clone()),
            ("AUDIT_GRPC", format!("127.0.0.1:{audit_grpc}")),
            kafka,
        ];
        let mut stock = start("stock", &["venv/bin/python", "stock.py"], &addresses);
        let stock_port = stock.port();
        let mut front = start("front", &["node", "front.mjs"], &[("STOCK_URL", url(stock_port))]);
        let front_port = front.port();
        invoices.port();
        let port = payment_url.split(['/', ':']).find_map(|part| part.parse().ok()).unwrap();
        let programs = vec![
            ("front", front),
            ("stock", stock),
            ("price", price),
            ("payment", payment),
            ("invoices", invoices),
            ("audit", audit),
        ];
        let _brokers = (broker, redis);
        Stack { server, programs, front: front_port, stock: stock_port, price: price_port, payment: port, _brokers }
    }

    fn run(&mut self, name: &str) -> &mut Run {
        &mut self.programs.iter_mut().find(|(known, _)| *known == name).unwrap().1
    }

    /// The spans of a trace that went all the way, once the last of them is there.
    fn whole(&self, id: &str) -> Vec<Json> {
        self.server.eventually("a trace that went all the way", |server| {
            let all = spans_of(server, id);
            // Each program sends when it likes: the last ones of each way.
            let ends = [
                ("front", "POST /buy/:item"),
                ("stock", "POST /buy/<item>"),
                ("price", "GET /price"),
                ("audit", "process orders"),
                ("payment", "POST /pay"),
                ("payment", "UPDATE payments"),
                ("invoices", "invoices process"),
            ];
            ends.iter()
                .all(|(service, name)| all.iter().any(|span| span["service"] == *service && span["name"] == *name))
        });
        spans_of(&self.server, id)
    }
}

/// Every hop of a purchase below the one before it.
fn check_purchase(all: &[Json]) -> &Json {
    let entry = one(all, "front", "server", "POST /buy/:item");
    let stock = below(all, entry, "stock", "server", "POST /buy/<item>");
    below(all, one(all, "front", "client", "POST"), "stock", "server", "POST /buy/<item>");
    // Over gRPC.
    let check = below(all, stock, "stock", "client", "/shop.Audit/Check");
    assert_eq!(below(all, check, "audit", "server", "grpc.shop.Audit/Check")["parent_span_id"], check["span_id"]);
    // Over HTTP, to Java and on.
    let price = below(all, below(all, stock, "stock", "client", "GET"), "price", "server", "GET /price");
    below(all, below(all, price, "price", "client", "GET"), "audit", "server", "GET");
    // Over HTTP, to Rust; there SQL, Redis and one more call.
    let pay = below(all, below(all, stock, "stock", "client", "POST"), "payment", "server", "POST /pay");
    below(all, below(all, pay, "payment", "client", "GET"), "audit", "server", "GET");
    for (kind, name) in [("internal", "charge the card"), ("client", "INSERT payments"), ("client", "INCRBY")] {
        assert_eq!(below(all, pay, "payment", kind, name)["parent_span_id"], pay["span_id"], "{name}");
    }
    // Through Kafka, twice, and read by two.
    let sent = below(all, pay, "payment", "producer", "send orders");
    let taken = below(all, sent, "audit", "consumer", "process orders");
    assert_eq!(taken["parent_span_id"], sent["span_id"]);
    let invoice = below(all, taken, "audit", "producer", "send invoices");
    for (service, name) in [("invoices", "invoices process"), ("payment", "process invoices")] {
        assert_eq!(below(all, invoice, service, "consumer", name)["parent_span_id"], invoice["span_id"]);
    }
    let noted = below(all, invoice, "payment", "client", "UPDATE payments");
    assert_eq!(noted["parent_span_id"], one(all, "payment", "consumer", "process invoices")["span_id"]);
    assert!(all.iter().all(|span| span["status"] != "error"), "{all:#?}");
    entry
}

const BOUGHT: &str = "{\"paid\":42.0}";

fn buy(stack: &Stack, headers: &[(&str, &str)]) -> (u16, String) {
    let answer = request(stack.front, "POST", "/buy/tea", headers, b"").unwrap();
    (answer.status, super::harness::text(&answer.body).trim().to_owned())
}

#[test]
fn programs_of_four_runtimes_make_one_trace() {
    let home = tempfile::tempdir().unwrap();
    let mut stack = Stack::start(home.path());
    assert_eq!(buy(&stack, &[]), (200, BOUGHT.to_owned()), "{}", stack.run("stock").err.lock().unwrap());
    let bought = "{ resource.service.name = \"front\" && name = \"POST /buy/:item\" }";
    stack.server.eventually("the purchase", |server| find(server, bought).len() == 1);
    let trace_id = find(&stack.server, bought).remove(0);
    let all = stack.whole(&trace_id);
    assert_eq!(check_purchase(&all)["parent_span_id"], Json::Null);
    // Each program's own log has the id.
    for name in ["front", "stock", "price", "payment", "invoices"] {
        stack.run(name).wait_for("a line with the trace's id", |line| line.contains(&trace_id).then_some(()));
    }
    callers_of_other_kinds(&stack);
    messages_of_python(&mut stack);
    errors(&stack);
    ends(stack);
}

/// B3 and Jaeger headers are continued through all of it; broken ones begin new traces and break nothing.
fn callers_of_other_kinds(stack: &Stack) {
    let (b3, jaeger) = ("0af7651916cd43dd8448eb211c803191", "0af7651916cd43dd8448eb211c803192");
    for (id, name, value) in [
        (b3, "b3", format!("{b3}-b7ad6b7169203331-1")),
        (jaeger, "uber-trace-id", format!("{jaeger}:b7ad6b7169203331:0:1")),
    ] {
        assert_eq!(buy(stack, &[(name, &value)]).0, 200);
        assert_eq!(check_purchase(&stack.whole(id))["parent_span_id"], "b7ad6b7169203331");
    }
    let order = br#"{"user":"eve","total":1,"card":"new"}"#;
    let json = ("content-type", "application/json");
    // Whoever sends two formats that disagree is read alike by all runtimes: the last of OTEL_PROPAGATORS wins.
    for (number, (service, port, method, path, body)) in [
        ("front", stack.front, "POST", "/buy/tea", &b""[..]),
        ("stock", stack.stock, "GET", "/headers", b""),
        ("price", stack.price, "GET", "/price?item=tea", b""),
        ("payment", stack.payment, "POST", "/pay", order),
    ]
    .into_iter()
    .enumerate()
    {
        let (w3c, other) = (format!("0af7651916cd43dd8448eb211c8032a{number}"), "0af7651916cd43dd8448eb211c8032ff");
        let headers = [
            ("uber-trace-id", format!("{other}:b7ad6b7169203332:0:1")),
            ("traceparent", format!("00-{w3c}-b7ad6b7169203331-01")),
        ];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        assert_eq!(request(port, method, path, &[&headers[..], &[json]].concat(), body).unwrap().status, 200);
        stack.server.eventually(service, |server| {
            let all = spans_of(server, &w3c);
            all.iter().any(|span| span["service"] == service && span["parent_span_id"] == "b7ad6b7169203331")
        });
        assert!(spans_of(&stack.server, other).is_empty(), "{service}");
    }
    for (port, path, body, query) in [
        (stack.stock, "/order/x?topic=refunds", &b""[..], "{ name = \"POST /order/<item>\" && kind = server }"),
        (stack.payment, "/pay", order, "{ resource.service.name = \"payment\" && name = \"POST /pay\" }"),
    ] {
        let known = find(&stack.server, query);
        let broken = [
            ("traceparent", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"),
            ("b3", "not-a-b3-header"),
            ("uber-trace-id", "0:0:0:0"),
        ];
        for (count, header) in broken.into_iter().enumerate() {
            let answer = request(port, "POST", path, &[header, json], body).unwrap();
            assert_eq!(answer.status, 200, "{header:?}: {}", super::harness::text(&answer.body));
            stack.server.eventually("a new trace", |server| find(server, query).len() == known.len() + count + 1);
        }
        for id in find(&stack.server, query).iter().filter(|id| !known.contains(id)) {
            let all = spans_of(&stack.server, id);
            let entries = all.iter().filter(|span| span["kind"] == "server" && span["parent_span_id"].is_null());
            assert_eq!(entries.count(), 1, "{all:#?}");
        }
    }
}

/// Python sends; Node.js takes one by one below the sender, and batches with a link to it.
fn messages_of_python(stack: &mut Stack) {
    assert_eq!(request(stack.stock, "POST", "/order/salt", &[], b"").unwrap().status, 200);
    stack.run("invoices").wait_for("an invoice", |line| (line == "INVOICE salt").then_some(()));
    let sent = "{ resource.service.name = \"stock\" && name = \"orders send\" }";
    let all = spans(&stack.server, sent, 5);
    let sent = one(&all, "stock", "producer", "orders send");
    assert_eq!(sent["parent_span_id"], one(&all, "stock", "server", "POST /order/<item>")["span_id"]);
    below(&all, below(&all, sent, "audit", "consumer", "process orders"), "invoices", "consumer", "invoices process");

    let refunds = "{ resource.service.name = \"audit\" && name = \"process refunds\" }";
    stack.server.eventually("a batch", |server| !find(server, refunds).is_empty());
    let all = spans_of(&stack.server, &find(&stack.server, refunds)[0]);
    let taken = all.iter().find(|span| span["name"] == "process refunds").unwrap();
    let [link] = &taken["links"].as_array().unwrap()[..] else { panic!("{taken}") };
    let senders = spans_of(&stack.server, link["trace_id"].as_str().unwrap());
    assert_eq!(one(&senders, "stock", "producer", "refunds send")["span_id"], link["span_id"]);
}

/// What goes wrong in each program is recorded with its stack, or its chain of causes.
fn errors(stack: &Stack) {
    let refused = request(stack.front, "POST", "/buy/tea?card=old", &[], b"").unwrap();
    assert_eq!(refused.status, 500);
    // The JDK's server just closes the connection when a handler throws.
    let _ = get(stack.front, "/broken", &[]);
    let _ = request(stack.price, "GET", "/broken", &[], b"");
    for (service, name, what) in [
        ("front", "GET /broken", "front is broken"),
        ("price", ".*/broken", "no price"),
        ("stock", "POST /buy/<item>", "504 Server Error"),
        ("payment", "charge the card", "caused by: deadline has elapsed"),
    ] {
        let query = format!("{{ resource.service.name = \"{service}\" && status = error && name =~ \"{name}\" }}");
        let all = spans(&stack.server, &query, 1);
        let of_service = all.iter().filter(|span| span["service"] == service);
        let events = of_service.flat_map(|span| span["events"].as_array().unwrap()).map(|event| &event["attributes"]);
        let stacks: Vec<String> = events.map(|attributes| attributes["exception.stacktrace"].to_string()).collect();
        assert!(stacks.iter().any(|stack| stack.contains(what)), "{service}: {stacks:?}");
    }
}

/// By SIGTERM, in good time, and with nothing printed but the program's own.
fn ends(stack: Stack) {
    for (name, run) in stack.programs {
        run.signal("TERM");
        let (status, out, err) = run.end();
        // The Rust program ends by itself when asked to.
        assert_eq!(status, Some(if name == "payment" { 0 } else { 143 }), "{name}: {err}");
        let own = |line: &str| ["PORT ", "GRPC ", "INVOICE ", "http://"].iter().any(|start| line.starts_with(start));
        assert!(out.lines().all(own), "{name} printed more than its own: {out}");
        assert!(!err.contains("Picked up") && !err.contains("Warning") && !err.contains("otel."), "{name}: {err}");
    }
}
