//! Reading shell text for the commands in it: enough to see which programs a script starts, by no means a shell.

use std::path::PathBuf;

/// Words that may stand before a command.
const BEFORE: &[&str] =
    &["then", "do", "else", "if", "elif", "while", "until", "!", "{", "exec", "nohup", "time", "command"];
/// No script is read beyond this many commands.
const MAX_COMMANDS: usize = 4096;

/// The simple commands of a text, each as its words without quotes; assignments and keywords before them are left out.
pub fn commands(text: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.chars().peekable();
    let end_word = |word: &mut String, words: &mut Vec<String>| {
        if !word.is_empty() {
            words.push(std::mem::take(word));
        }
    };
    while let Some(character) = characters.next() {
        if all.len() >= MAX_COMMANDS {
            break;
        }
        match (quote, character) {
            (None, '\\') => {
                if let Some(next) = characters.next().filter(|next| *next != '\n') {
                    word.push(next);
                }
            }
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), _) if character == open => quote = None,
            (Some(_), _) => word.push(character),
            (None, '#') if word.is_empty() => {
                while characters.peek().is_some_and(|next| *next != '\n') {
                    characters.next();
                }
            }
            (None, '\n' | ';' | '|' | '&' | '(' | ')' | '`') => {
                end_word(&mut word, &mut words);
                all.push(std::mem::take(&mut words));
            }
            (None, _) if character.is_whitespace() => end_word(&mut word, &mut words),
            (None, _) => word.push(character),
        }
    }
    end_word(&mut word, &mut words);
    all.push(words);
    all.into_iter().map(strip).filter(|words| !words.is_empty()).collect()
}

fn strip(words: Vec<String>) -> Vec<String> {
    let is_before = |word: &String| {
        let name = word.split('=').next().unwrap_or_default();
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        BEFORE.contains(&word.as_str()) || (word.contains('=') && is_name)
    };
    words.into_iter().skip_while(is_before).collect()
}

/// `$PYTHON`, `${JAVACMD}`, `${NODE:-node}`: the name of the variable, or the word as it is.
pub fn variable_name(word: &str) -> &str {
    let Some(rest) = word.strip_prefix('$') else { return word };
    let rest = rest.strip_prefix('{').unwrap_or(rest);
    let end = rest.find([':', '}', '-', '/']).unwrap_or(rest.len());
    match rest.get(end..).unwrap_or_default().trim_start_matches('}').strip_prefix('/') {
        // `$JAVA_HOME/bin/java`: the path decides.
        Some(_) => word,
        None => rest.get(..end).unwrap_or(rest),
    }
}

/// The interpreter of an installed script whose path was too long for `#!`: its second line is
/// `'''exec' /path/to/python "$0" "$@"`.
pub fn exec_trick(text: &str) -> Option<PathBuf> {
    let line = text.lines().nth(1)?.strip_prefix("'''exec' ")?;
    let path = line.strip_suffix("\"$0\" \"$@\"").unwrap_or(line).trim().trim_matches('"');
    Some(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let found: Vec<String> = commands(text).iter().map(|words| words.join(" ")).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn commands_of_a_script() {
        check("#!/bin/sh\n# start\nexec java -jar 'my app.jar'\n", &["java -jar my app.jar"]);
        check("PORT=1 node a.js & python3 b.py; wait", &["node a.js", "python3 b.py", "wait"]);
        check("if true; then npm start; fi", &["true", "npm start", "fi"]);
        check("exec \"$JAVACMD\" \\\n  -cp x Main", &["$JAVACMD -cp x Main"]);
        check("echo 'node not run'", &["echo node not run"]);
        check("", &[]);
    }

    #[test]
    fn variables_that_stand_for_programs() {
        for (word, name) in [
            ("$JAVACMD", "JAVACMD"),
            ("${PYTHON:-python3}", "PYTHON"),
            ("${NODE}", "NODE"),
            ("$JAVA_HOME/bin/java", "$JAVA_HOME/bin/java"),
            ("${JAVA_HOME}/bin/java", "${JAVA_HOME}/bin/java"),
            ("node", "node"),
        ] {
            assert_eq!(variable_name(word), name, "{word}");
        }
    }

    #[test]
    fn a_long_shebang() {
        let text = "#!/bin/sh\n'''exec' \"/a b/venv/bin/python\" \"$0\" \"$@\"\n' '''\nimport sys\n";
        assert_eq!(exec_trick(text), Some(PathBuf::from("/a b/venv/bin/python")));
        assert_eq!(exec_trick("#!/bin/sh\necho\n"), None);
    }
}
