//! Java: the agent is one jar from Maven Central, named by `-javaagent`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use super::agents::{Agents, JAVA_EXTENSION, client};
use super::detect::{Found, Runtime, Use, search};
use super::environment::{Variables, current, extend, set_default};
use super::plan::{Outcome, Probe};

pub const VERSION: &str = "2.23.0";
const SHA256: &str = "b23e5ab7f5fb4f58826c6d2c31ea637825c7190652a9d47d86692e37e615a0d5";
const JAR: &str = "opentelemetry-javaagent.jar";
/// The agent's list of extensions, separated by commas.
const EXTENSIONS: &str = "OTEL_JAVAAGENT_EXTENSIONS";

pub fn jar(agents: &Agents) -> PathBuf {
    agents.directory(Runtime::Java).join(JAR)
}

/// # Errors
/// When Maven is not there, fails, or brings another file than the one known.
pub fn install(agents: &Agents) -> anyhow::Result<()> {
    agents.install(&agents.directory(Runtime::Java), VERSION, |directory| {
        let maven = search("mvn".as_ref()).with_context(|| {
            let place = agents.directory(Runtime::Java);
            format!(
                "Maven (mvn) is not there to fetch it; install it, or copy a filled agents directory to {}",
                place.display()
            )
        })?;
        let mut command = Command::new(maven);
        command
            .args(["--batch-mode", "--quiet", "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"])
            .arg(format!("-Dartifact=io.opentelemetry.javaagent:opentelemetry-javaagent:{VERSION}"))
            .arg(format!("-DoutputDirectory={}", directory.display()))
            .current_dir(directory);
        client(&mut command, "mvn dependency:copy")?;
        let fetched = directory.join(format!("opentelemetry-javaagent-{VERSION}.jar"));
        check_sum(&fetched)?;
        Ok(std::fs::rename(fetched, directory.join(JAR))?)
    })
}

fn check_sum(path: &Path) -> anyhow::Result<()> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let sum = hexadecimal(&Sha256::digest(&bytes));
    if sum != SHA256 {
        bail!("the file that came has the checksum {sum}, not {SHA256}: it is not used");
    }
    Ok(())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Switches the agent on, by an argument for `java` itself, by `JAVA_TOOL_OPTIONS` otherwise.
///
/// # Errors
/// Why not.
pub fn prepare(
    agents: &Agents,
    found: &Found,
    usage: &Use,
    probe: &Probe<'_>,
    arguments: &mut Vec<OsString>,
    variables: &mut Variables,
) -> anyhow::Result<Outcome> {
    let has_agent = |text: &str| text.contains("-javaagent:") && text.contains("opentelemetry");
    let options = ["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS"].map(|name| current(variables, name).unwrap_or_default());
    let given = found.command.iter().chain(&options).any(|text| has_agent(&text.to_string_lossy()));
    if given {
        return Ok(Outcome::Own("an OpenTelemetry agent is given already"));
    }
    install(agents)?;
    let jar = jar(agents);
    let java = usage.interpreter.as_ref().context("there is no java on the PATH")?;
    let agent = format!("-javaagent:{}", jar.display());
    let mut check = Command::new(java);
    check.args([agent.as_str(), "-version"]).env("OTEL_JAVAAGENT_LOGGING", "simple");
    // Counts what is not delivered. Without a place for it nothing is counted.
    let hooks = agents.hooks().ok().filter(|hooks| !hooks.as_os_str().as_encoded_bytes().contains(&b','));
    let extension = hooks.map(|hooks| hooks.join(JAVA_EXTENSION));
    if let Some(extension) = &extension {
        extend(variables, EXTENSIONS, ",", extension.as_os_str(), false);
    }
    check.envs(current(variables, EXTENSIONS).map(|value| (EXTENSIONS, value)));
    let files: Vec<&Path> = std::iter::once(&jar).chain(&extension).map(PathBuf::as_path).collect();
    probe.passes(Runtime::Java, java, &files, check)?;
    // Its own log would go to the program's standard error.
    if std::env::var_os("SPANWISE_DEBUG").is_none() {
        set_default(variables, "OTEL_JAVAAGENT_LOGGING", "none");
    }
    // A JVM's end must not hang on a receiver that is gone: what cannot be sent at once is dropped.
    set_default(variables, "OTEL_JAVA_EXPORTER_OTLP_RETRY_DISABLED", "true");
    // With an agent, class data sharing only makes the JVM print a warning.
    let is_said = |text: &OsString| text.to_string_lossy().contains("-Xshare");
    let no_sharing = (!found.command.iter().chain(&options).any(is_said)).then_some("-Xshare:off");
    if found.is_direct_java {
        arguments.push(agent.into());
        arguments.extend(no_sharing.map(OsString::from));
    } else {
        let quoted = if agent.contains(' ') { format!("\"{agent}\"") } else { agent };
        for option in no_sharing.into_iter().chain([quoted.as_str()]) {
            extend(variables, "JAVA_TOOL_OPTIONS", " ", option.as_ref(), false);
        }
    }
    Ok(Outcome::On(format!("opentelemetry-javaagent {VERSION}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `assets/java/build.sh` makes it anew.
    #[test]
    fn the_extension_was_built_from_the_source_beside_it() {
        let source = include_bytes!("assets/java/dev/spanwise/LostSpans.java");
        let jar = include_bytes!("assets/java/lost-spans.jar");
        let sum = hexadecimal(&Sha256::digest(source));
        assert!(jar.windows(sum.len()).any(|window| window == sum.as_bytes()));
    }

    #[test]
    fn another_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.jar");
        std::fs::write(&path, b"not the agent").unwrap();
        assert!(check_sum(&path).unwrap_err().to_string().contains("checksum"));
    }
}
