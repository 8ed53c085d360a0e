//! Sends every case of the corpus, over each protocol it is for, and looks at the answer and at what was kept.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use super::case::{Case, Form};
use crate::grpc;
use crate::harness::{Server, hex, otlp, request, span, text};

const COUNTERS: [&str; 3] =
    ["otelcol_receiver_accepted_spans", "spanwise_receiver_rejected_spans", "spanwise_receiver_repaired_strings"];

fn files() -> Vec<PathBuf> {
    let root = "tests/corpus";
    let mut files: Vec<PathBuf> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .flat_map(|dir| std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "case"))
        .collect();
    files.sort();
    files
}

/// The status and what was said, over HTTP.
fn over_http(server: &Server, case: &Case) -> (u16, String) {
    let port = server.port("otlp_http");
    if matches!(case.form, Form::HttpConnection | Form::HttpConnectionCut) {
        return raw_http(port, &case.body, case.form == Form::HttpConnectionCut);
    }
    let content_type = if case.form == Form::Json { "application/json" } else { "application/x-protobuf" };
    let mut headers: Vec<(&str, &str)> = case.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    if headers.iter().all(|(name, _)| *name != "content-type") {
        headers.push(("content-type", content_type));
    }
    let answer = request(port, "POST", "/v1/traces", &headers, &case.body).expect("an answer");
    (answer.status, text(&answer.body))
}

/// Sends bytes as they are; the status of the first answer, and all of them.
fn raw_http(port: u16, bytes: &[u8], is_cut: bool) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // A server may answer and close before it has read all.
    let _ = stream.write_all(bytes);
    if is_cut {
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = text(&answer);
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, answer)
}

/// The name of the code and the message, over gRPC.
fn over_grpc(server: &Server, case: &Case) -> (String, String) {
    let port = server.port("otlp_grpc");
    let mut headers: Vec<(&str, &str)> = case.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    let is_compressed = headers.iter().any(|(name, _)| *name == "content-encoding");
    for (name, _) in &mut headers {
        *name = if *name == "content-encoding" { "grpc-encoding" } else { *name };
    }
    let answer = match case.form {
        Form::GrpcStream => grpc::call_raw(port, &headers, &case.body),
        _ => grpc::call_raw(port, &headers, &grpc::frame(is_compressed, &case.body)),
    };
    // A partial success stands in the answer itself.
    let said = format!("{}{}", answer.message, text(&answer.body));
    (answer.code, said)
}

#[test]
fn every_case_of_the_corpus_gets_its_answer_and_good_traffic_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let files = files();
    let mut failures = Vec::new();
    let mut sent_good = 0;
    let mut expected = [0; 3];
    for (number, path) in files.iter().enumerate() {
        let case = Case::read(path, number as u64 + 1);
        let mut fail = |what: String| failures.push(format!("{}: {what}", case.name));
        let mut answers = Vec::new();
        if let Some(status) = case.http {
            let (got, said) = over_http(&server, &case);
            if got != status {
                fail(format!("HTTP {got} instead of {status}: {said}"));
            }
            answers.push(said);
        }
        if let Some(code) = &case.grpc {
            let (got, said) = over_grpc(&server, &case);
            if got != *code {
                fail(format!("gRPC {got} instead of {code}: {said}"));
            }
            answers.push(said);
        }
        if let Some(part) = &case.says {
            for said in answers.iter().filter(|said| !said.contains(part)) {
                fail(format!("{part:?} is not in {said:?}"));
            }
        }
        let times = answers.len() as u64;
        if !case.stored.is_empty() {
            let answer = server.get("http", &format!("/api/spanwise/traces/{}", hex(&case.ids.trace)));
            let trace: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            for (pointer, value) in &case.stored {
                let found = trace.pointer(pointer);
                if found != Some(value) {
                    fail(format!("{pointer} is {found:?} instead of {value}"));
                }
            }
        }
        // Good traffic goes on, on both protocols, and nothing but the good spans was kept.
        let good = otlp("good", vec![span(number as u64, 1, 0, "good")]);
        let good_grpc = grpc::call_raw(server.port("otlp_grpc"), &[], &grpc::frame(false, &good));
        if server.export(&good) != Some(200) || good_grpc.code != "OK" {
            fail("good traffic does not go on".to_owned());
        }
        sent_good += 2;
        expected.iter_mut().zip(case.counts).for_each(|(sum, count)| *sum += count * times);
        let counted = COUNTERS.map(|name| server.metric(name));
        let wanted = [expected[0] + sent_good, expected[1], expected[2]];
        if counted != wanted {
            fail(format!("accepted, rejected, repaired are {counted:?} instead of {wanted:?}"));
            expected = [counted[0] - sent_good, counted[1], counted[2]];
        }
    }
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), files.len(), failures.join("\n"));
    assert!(files.len() >= 100, "only {} cases", files.len());
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let peak_kib: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(peak_kib < 700 << 10, "{peak}");
    assert_eq!(server.stop(), Some(0));
}
