//! Jaeger's remote sampling: what SDKs ask over HTTP and gRPC, a file that changes, and rates that follow the load.

use serde_json::json;
use spanwise_model::limits;
use spanwise_wire::view::Fields;

use crate::grpc;
use crate::harness::{Server, config, otlp, request, span};

const METHOD: &str = "/jaeger.api_v2.SamplingManager/GetSamplingStrategy";

/// `SamplingStrategyParameters` of a service.
fn question(service: &str) -> Vec<u8> {
    let mut message = vec![0x0a, u8::try_from(service.len()).unwrap()];
    message.extend_from_slice(service.as_bytes());
    grpc::frame(false, &message)
}

/// The probability in a `SamplingStrategyResponse`.
fn probability(answer: &[u8]) -> f64 {
    let sampler = Fields::new(answer).find(|field| field.number == 2).unwrap().value.bytes();
    f64::from_bits(Fields::new(sampler).find(|field| field.number == 1).map_or(0, |field| field.value.uint()))
}

#[test]
fn the_built_in_config_samples_everything() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    for path in ["/sampling?service=shop", "/api/sampling?service=shop", "/?service=a%20b"] {
        let expected = json!({"strategyType": "PROBABILISTIC", "probabilisticSampling": {"samplingRate": 1.0}});
        assert_eq!(server.json("sampling", path), expected, "{path}");
    }
    let answer = grpc::call(server.port("sampling_grpc"), METHOD, &[], &question("shop"));
    assert_eq!((answer.code.as_str(), probability(&answer.body)), ("OK", 1.0));
    for (path, status) in [("/sampling", 400), ("/sampling?service=a&service=b", 400), ("/other?service=a", 404)] {
        assert_eq!(server.get("sampling", path).status, status, "{path}");
    }
    let port = server.port("sampling");
    assert_eq!(request(port, "POST", "/sampling?service=a", &[], b"").unwrap().status, 405);
    let port = server.port("sampling_grpc");
    assert_eq!(grpc::call(port, "/jaeger.api_v2.SamplingManager/Other", &[], &question("a")).code, "UNIMPLEMENTED");
    assert_eq!(grpc::call(port, METHOD, &[], &question("shop")[..3]).code, "INVALID_ARGUMENT");
    assert_eq!(grpc::call(port, METHOD, &[], &grpc::frame(false, &vec![0; 1 << 20])).code, "INVALID_ARGUMENT");
}

#[test]
fn sampling_question_bytes_at_the_limit_and_one_past_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let of = |bytes: usize| {
        // An unknown field of bytes makes up the rest.
        let length = bytes - 5 - 4;
        let mut message = vec![0x7a, length as u8 | 0x80, (length >> 7) as u8 | 0x80, (length >> 14) as u8];
        message.resize(bytes - 5, 0);
        grpc::call(server.port("sampling_grpc"), METHOD, &[], &grpc::frame(false, &message)).code
    };
    assert_eq!(of(limits::SAMPLING_QUESTION_BYTES), "OK");
    assert_eq!(of(limits::SAMPLING_QUESTION_BYTES + 1), "INVALID_ARGUMENT");
}

fn with_source(dir: &std::path::Path, source: &str) -> Server {
    let text = format!(
        "extensions: {{jaegerremotesampling: {{source: {source}}}}}\n\
         receivers: {{otlp: {{protocols: {{http: }}}}}}\nexporters: {{nop: }}\n\
         service: {{extensions: [jaegerremotesampling], pipelines: {{traces: {{receivers: [otlp], exporters: [nop]}}}}}}\n"
    );
    Server::start_in_memory(&["--config", &config(dir, "sampling.yaml", &text)])
}

#[test]
fn a_file_of_strategies_is_served_and_read_anew() {
    let dir = tempfile::tempdir().unwrap();
    let write = |rate: &str| {
        let text = format!(
            r#"{{"service_strategies":[{{"service":"shop","type":"probabilistic","param":{rate},"operation_strategies":[
               {{"operation":"GET /","type":"probabilistic","param":0.25}}]}},{{"service":"bar","type":"ratelimiting","param":5}}],
               "default_strategy":{{"type":"probabilistic","param":0.5}}}}"#
        );
        config(dir.path(), "strategies.json", &text)
    };
    let file = write("0.8");
    let server = with_source(dir.path(), &format!("{{file: '{file}', reload_interval: 20ms}}"));
    let rate = |server: &Server| {
        server.json("sampling", "/sampling?service=shop")["probabilisticSampling"]["samplingRate"].clone()
    };
    assert_eq!(rate(&server), json!(0.8));
    let shop = server.json("sampling", "/sampling?service=shop");
    assert_eq!(shop["operationSampling"]["perOperationStrategies"][0]["probabilisticSampling"]["samplingRate"], 0.25);
    let bar = json!({"strategyType": "RATE_LIMITING", "rateLimitingSampling": {"maxTracesPerSecond": 5}});
    assert_eq!(server.json("sampling", "/sampling?service=bar"), bar);
    // A broken file changes nothing and is counted; a good one is taken.
    write("nonsense");
    server.eventually("the failure is counted", |server| server.metric("spanwise_sampling_reload_failures") > 0);
    assert_eq!(rate(&server), json!(0.8));
    write("0.1");
    server.eventually("the new rate is told", |server| rate(server) == json!(0.1));
    let answer = grpc::call(server.port("sampling_grpc"), METHOD, &[], &question("shop"));
    assert_eq!(probability(&answer.body), 0.1);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn rates_follow_what_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let source =
        "{adaptive: {target_samples_per_second: 1, initial_sampling_probability: 0.5, calculation_interval: 200ms}}";
    let server = with_source(dir.path(), source);
    let rates = |server: &Server| {
        let answer = server.json("sampling", "/sampling?service=shop");
        assert_eq!(answer["operationSampling"]["defaultSamplingProbability"], 0.5);
        let each = answer["operationSampling"]["perOperationStrategies"].as_array().unwrap().clone();
        let rate = |name: &str| {
            let found = each.iter().find(|one| one["operation"] == name)?;
            found["probabilisticSampling"]["samplingRate"].as_f64()
        };
        (rate("GET /busy"), rate("GET /rare"))
    };
    assert_eq!(rates(&server), (None, None));
    // Children do not count, however many there are.
    let mut spans: Vec<_> = (0..200).map(|number| span(number, 1, 0, "GET /busy")).collect();
    spans.extend((0..200).map(|number| span(number, 2, 1, "call")));
    let mut rare = span(500, 1, 0, "GET /rare");
    // Sampled with one in two, and says so: two a second would be two hundred milliseconds' worth of half a one.
    rare.trace_state = "ot=th:8".to_owned();
    spans.push(rare);
    assert_eq!(server.export(&otlp("shop", spans)), Some(200));
    server.eventually("both are known", |server| matches!(rates(server), (Some(_), Some(_))));
    let (busy, rare) = rates(&server);
    assert!(busy.unwrap() < 0.01, "{busy:?}");
    assert!(rare.unwrap() > busy.unwrap(), "{rare:?}");
}

#[test]
fn a_source_that_cannot_be_used_is_named() {
    let validate = |source: &str| {
        let config = format!(
            "yaml:{{extensions: {{jaegerremotesampling: {{source: {source}}}}}, receivers: {{otlp: {{protocols: {{http: }}}}}}, \
             exporters: {{nop: }}, service: {{extensions: [jaegerremotesampling], pipelines: {{traces: {{receivers: [otlp], exporters: [nop]}}}}}}}}"
        );
        crate::harness::text(&crate::harness::spanwise(&["validate", "--config", &config]).stderr)
    };
    for (source, part) in [
        ("{}", "no source of strategies"),
        ("{file: a, contents: '{}'}", "only one of"),
        ("{contents: '['}", "cannot read strategies"),
        ("{adaptive: {target_samples_per_second: 0}}", "must be positive"),
        ("{fil: a}", "did you mean \"file\"?"),
    ] {
        let error = validate(source);
        assert!(error.contains(part), "{source}: {error}");
    }
}
