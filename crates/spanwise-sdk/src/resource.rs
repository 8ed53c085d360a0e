//! What this program is and where it runs: files and variables only, nothing is asked over the network.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, ResourceDetector, TelemetryResourceDetector};

/// Of a file under `/proc`.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Later sources win: what is detected, the program's own attributes, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SERVICE_NAME`.
pub(crate) fn detect(service_name: Option<&str>, own: Vec<KeyValue>) -> Resource {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let environment = EnvResourceDetector::new().detect();
    let named = environment.get(&"service.name".into()).map(|name| name.to_string());
    let own_name = own.iter().find(|pair| pair.key.as_str() == "service.name").map(|pair| pair.value.to_string());
    let name = variable("OTEL_SERVICE_NAME")
        .or(named)
        .or_else(|| own_name.or_else(|| service_name.map(String::from)))
        .unwrap_or_else(|| format!("unknown_service:{}", executable_name().unwrap_or_else(|| "rust".into())));
    Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes(process())
        .with_attributes(host())
        .with_attributes(container())
        .with_attributes(kubernetes(&variable, read("/var/run/secrets/kubernetes.io/serviceaccount/namespace")))
        .with_attributes([
            KeyValue::new("service.instance.id", instance_id()),
            KeyValue::new("telemetry.distro.name", "spanwise"),
            KeyValue::new("telemetry.distro.version", env!("CARGO_PKG_VERSION")),
        ])
        .with_attributes(own)
        .with_attributes(environment.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())))
        .with_service_name(name)
        .build()
}

fn process() -> Vec<KeyValue> {
    let mut found = vec![KeyValue::new("process.pid", i64::from(std::process::id()))];
    found.extend(executable_name().map(|name| KeyValue::new("process.executable.name", name)));
    if let Ok(path) = std::env::current_exe() {
        found.push(KeyValue::new("process.executable.path", path.to_string_lossy().into_owned()));
    }
    found
}

fn executable_name() -> Option<String> {
    Some(std::env::current_exe().ok()?.file_name()?.to_string_lossy().into_owned())
}

fn host() -> Vec<KeyValue> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "x86",
        "aarch64" => "arm64",
        "arm" => "arm32",
        other => other,
    };
    let mut found = vec![KeyValue::new("host.arch", arch), KeyValue::new("os.type", std::env::consts::OS)];
    let name = read("/proc/sys/kernel/hostname").or_else(|| std::env::var("HOSTNAME").ok());
    found.extend(name.and_then(trimmed).map(|name| KeyValue::new("host.name", name)));
    found.extend(read("/etc/machine-id").and_then(trimmed).map(|id| KeyValue::new("host.id", id)));
    found
}

fn container() -> Vec<KeyValue> {
    let id = read("/proc/self/cgroup").as_deref().and_then(container_of_cgroup);
    let id = id.or_else(|| read("/proc/self/mountinfo").as_deref().and_then(container_of_mounts));
    id.map(|id| KeyValue::new("container.id", id)).into_iter().collect()
}

/// Version 1 of control groups: the last part of a path, between a runtime's prefix and `.scope`.
fn container_of_cgroup(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let last = line.rsplit('/').next()?.trim_end_matches(".scope");
        container_id(last.rsplit(['-', ':']).next()?)
    })
}

/// Version 2: the runtime mounts files of the container, such as `…/containers/<id>/hostname`.
fn container_of_mounts(text: &str) -> Option<String> {
    let lines = || text.lines().filter(|line| line.contains("/containers/") || line.contains("/hostname"));
    lines().find_map(|line| {
        let path = line.split(' ').find(|field| field.contains("/containers/") || field.contains("-containers/"))?;
        path.split('/').find_map(container_id)
    })
}

fn container_id(text: &str) -> Option<String> {
    let is_id = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_id.then(|| text.to_owned())
}

/// In a cluster only: the pod's own name is its host name, unless the deployment says more.
fn kubernetes(variable: &dyn Fn(&str) -> Option<String>, namespace: Option<String>) -> Vec<KeyValue> {
    if variable("KUBERNETES_SERVICE_HOST").is_none() {
        return Vec::new();
    }
    let first = |names: &[&str]| names.iter().find_map(|name| variable(name));
    [
        ("k8s.pod.name", first(&["K8S_POD_NAME", "POD_NAME", "HOSTNAME"])),
        ("k8s.pod.uid", first(&["K8S_POD_UID", "POD_UID"])),
        ("k8s.node.name", first(&["K8S_NODE_NAME", "NODE_NAME"])),
        ("k8s.namespace.name", first(&["K8S_NAMESPACE_NAME", "POD_NAMESPACE"]).or_else(|| namespace.and_then(trimmed))),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some(KeyValue::new(key, value?)))
    .collect()
}

/// A random UUID (version 4).
fn instance_id() -> String {
    use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
    let hex = RandomIdGenerator::default().new_trace_id().to_string();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-4{}-a{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_FILE_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

fn trimmed(text: String) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "f1e2d3c4b5a6978877665544332211000123456789abcdef0123456789abcdef";

    #[test]
    fn containers() {
        for line in [
            format!("12:cpu:/docker/{ID}"),
            format!("1:name=systemd:/kubepods.slice/kubepods-pod12.slice/cri-containerd-{ID}.scope"),
            format!("0::/../cri-containerd:{ID}"),
        ] {
            assert_eq!(container_of_cgroup(&format!("0::/\n{line}\n")).as_deref(), Some(ID), "{line}");
        }
        assert_eq!(container_of_cgroup("0::/init.scope\n12:cpu:/user.slice"), None);
        let mounts = format!(
            "1 2 0:1 / /proc rw - proc proc rw\n473 456 254:1 /docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/vda1 rw\n"
        );
        assert_eq!(container_of_mounts(&mounts).as_deref(), Some(ID));
        assert_eq!(container_of_mounts("1 2 0:1 /containers/short/hostname /x rw"), None);
    }

    #[test]
    fn clusters() {
        let pod = |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => Some("10.0.0.1".to_owned()),
            "HOSTNAME" => Some("shop-7d9".to_owned()),
            _ => None,
        };
        let found = kubernetes(&pod, Some("prod\n".into()));
        let text: Vec<_> = found.iter().map(|pair| format!("{}={}", pair.key, pair.value)).collect();
        assert_eq!(text, ["k8s.pod.name=shop-7d9", "k8s.namespace.name=prod"]);
        assert!(kubernetes(&|_| None, Some("prod".into())).is_empty());
    }

    #[test]
    fn a_service_always_has_a_name_and_an_instance() {
        let resource = detect(Some("shop"), vec![KeyValue::new("team", "red")]);
        let value = |key: &'static str| resource.get(&key.into()).map(|value| value.to_string());
        assert_eq!(value("service.name").as_deref(), Some("shop"));
        assert_eq!(value("team").as_deref(), Some("red"));
        assert_eq!(value("telemetry.distro.name").as_deref(), Some("spanwise"));
        assert_eq!(value("service.instance.id").map(|id| id.len()), Some(36));
        assert!(value("process.pid").is_some() && value("os.type").is_some());
        let unnamed = detect(None, Vec::new()).get(&"service.name".into()).unwrap().to_string();
        assert!(unnamed.starts_with("unknown_service:"), "{unnamed}");
    }
}
