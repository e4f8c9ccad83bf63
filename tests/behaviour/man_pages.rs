//! The manual and the program name the same directives, defaults, contexts and options.
//!
//! In the .conf.5 a directive is a subsection `.Ss Name`, followed by a list with the items `Syntax`, `Default` and
//! `Context`. What the program says is `-L` and `--help`.

use crate::support::proxy::run;
use crate::support::tree;
use std::collections::BTreeMap;

/// One directive as the program or the manual describes it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Directive {
    syntax: String,
    default: String,
    context: String,
}

/// `Name syntax`, and indented `default: ...` and `allowed in: ...`.
fn listed() -> BTreeMap<String, Directive> {
    let text = run(&["-L"]).expect_status(0).stdout;
    let mut directives: BTreeMap<String, Directive> = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if !line.starts_with([' ', '\t']) {
            let (first, syntax) = line.split_once(' ').unwrap_or((line, ""));
            name = plain(first);
            directives.entry(name.clone()).or_default().syntax = plain(syntax);
            continue;
        }
        let directive = directives
            .get_mut(&name)
            .expect("a directive before its details");
        if let Some((kind, value)) = line.trim().split_once(':') {
            match kind {
                "default" => directive.default = plain(value),
                "allowed in" => directive.context = plain(value),
                _ => {}
            }
        }
    }
    directives
}

fn described() -> BTreeMap<String, Directive> {
    let text = page("proxy-wstunnel.conf.5");
    let mut directives = BTreeMap::new();
    for section in text.split("\n.Ss ").skip(1) {
        let section = section.split("\n.Sh ").next().unwrap();
        let (name, rest) = section.split_once('\n').unwrap();
        let item = |title: &str| {
            let (_, value) = rest.split_once(&format!("\n.It {title}\n"))?;
            let end = ["\n.It ", "\n.El"]
                .iter()
                .filter_map(|end| value.find(end))
                .min();
            Some(plain(&value[..end?]))
        };
        // Other subsections explain something; they have no such list.
        if let Some(syntax) = item("Syntax") {
            // Written out, as a person types it, or as in the table, without the name.
            let bare = plain(name);
            let syntax = syntax.strip_prefix(&bare).unwrap_or(&syntax).to_owned();
            let directive = Directive {
                syntax,
                default: item("Default").unwrap_or_default(),
                context: item("Context").unwrap_or_default(),
            };
            let twice = directives.insert(bare, directive);
            assert_eq!(twice, None, "{name} stands there twice");
        }
    }
    directives
}

fn page(name: &str) -> String {
    let path = tree().join("man").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The words of a text without the macros and escapes of mdoc and without quotes, so that markup is free.
fn plain(text: &str) -> String {
    let mut words = Vec::new();
    for line in text.lines() {
        let is_macro = line.starts_with('.');
        for word in line.split_whitespace() {
            let word = word.trim_start_matches('.');
            let markup = is_macro
                && word.len() == 2
                && word.starts_with(|c: char| c.is_uppercase())
                && matches!(
                    word,
                    "Ic" | "Ar"
                        | "Cm"
                        | "Op"
                        | "Ql"
                        | "Li"
                        | "Pa"
                        | "Dq"
                        | "Sq"
                        | "No"
                        | "Ns"
                        | "Oo"
                        | "Oc"
                        | "Pf"
                        | "Sy"
                        | "Em"
                        | "Fl"
                );
            if !markup {
                words.push(word);
            }
        }
    }
    let mut text = words.join(" ");
    for (escape, meaning) in [
        ("\\&", ""),
        ("\\-", "-"),
        ("\\(dq", ""),
        ("\\ ", " "),
        ("\\e", "\\"),
        ("\"", ""),
    ] {
        text = text.replace(escape, meaning);
    }
    // Markup may join or part what the table writes together.
    text.retain(|c| !c.is_whitespace() && !"[]<>".contains(c));
    text
}

#[test]
fn every_directive_is_described_and_nothing_else() {
    let (listed, described) = (listed(), described());
    assert!(listed.len() > 25, "-L lists {}", listed.len());
    let missing: Vec<_> = listed
        .keys()
        .filter(|name| !described.contains_key(*name))
        .collect();
    assert!(
        missing.is_empty(),
        "without a subsection in the manual: {missing:?}"
    );
    let unknown: Vec<_> = described
        .keys()
        .filter(|name| !listed.contains_key(*name))
        .collect();
    assert!(
        unknown.is_empty(),
        "the manual describes what the program does not know: {unknown:?}"
    );
}

#[test]
fn syntax_defaults_and_contexts_are_those_of_the_program() {
    let described = described();
    let mut differences = Vec::new();
    for (name, program) in listed() {
        if let Some(manual) = described.get(&name)
            && *manual != program
        {
            differences.push(format!(
                "{name}: the program has {program:?}, the manual {manual:?}"
            ));
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

/// Those in the section of examples that have a `Listen`, but for the one that needs a certificate.
#[test]
fn whole_configurations_among_the_examples_load_without_a_warning() {
    let text = page("proxy-wstunnel.conf.5");
    let (_, examples) = text.split_once("\n.Sh EXAMPLES\n").unwrap();
    let (examples, _) = examples.split_once("\n.Sh ").unwrap();
    let blocks = examples.split("\n.Bd -literal -offset indent\n").skip(1);
    let blocks = blocks.map(|block| block.split("\n.Ed").next().unwrap().replace("\\e", "\\"));
    let in_tls = |block: &String| cfg!(feature = "tls") || !block.contains("wss://");
    let mut count = 0;
    for block in blocks
        .filter(|block| block.contains("Listen ") && !block.contains("certs/"))
        .filter(in_tls)
    {
        count += 1;
        let checked = crate::support::proxy::check(&block).expect_status(0);
        assert_eq!(checked.stderr.trim(), "Syntax OK", "{block}");
    }
    assert!(count >= 2, "{count}");
}

#[test]
fn every_option_is_described_and_nothing_else() {
    let help = run(&["--help"]).expect_status(0).stdout;
    // `  -f, --file  ...`: the manual speaks of the short one, where there is one.
    let lines = help.lines().map(str::trim_start);
    let lines: Vec<&str> = lines.filter(|line| line.starts_with('-')).collect();
    let short: Vec<&str> = lines
        .iter()
        .map(|line| {
            let name = line.split([',', ' ']).next().unwrap();
            name.strip_prefix('-').unwrap()
        })
        .collect();
    assert!(short.len() > 7, "{help}");
    let page = page("proxy-wstunnel.8");
    let described: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix(".It Fl "))
        .map(|rest| rest.split(' ').next().unwrap())
        .collect();
    for option in &short {
        assert!(described.contains(option), "-{option} is not in the manual");
    }
    for option in described {
        assert!(short.contains(&option), "there is no -{option}");
    }
}

/// The numbers stand in the manual, each with httpd's own and with what to do.
#[test]
fn every_message_is_described_and_nothing_else() {
    use proxy_wstunnel::ids::Id;
    let page = page("proxy-wstunnel.8");
    let lines: Vec<&str> = page.lines().collect();
    let mut described = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(head) = line.strip_prefix(".It PW") else {
            continue;
        };
        let (code, counterpart) = match head.split_once(" Pq ") {
            Some((code, counterpart)) => (code, Some(counterpart)),
            None => (head, None),
        };
        let text: Vec<&str> = lines[index + 1..]
            .iter()
            .take_while(|line| !line.starts_with('.'))
            .copied()
            .collect();
        described.push((
            format!("PW{code}"),
            counterpart,
            text.join(" ").to_lowercase(),
        ));
    }
    let numbers: Vec<&str> = described.iter().map(|(code, ..)| code.as_str()).collect();
    let known: Vec<&str> = Id::all().map(Id::code).collect();
    assert_eq!(numbers, known);
    for (id, (_, counterpart, text)) in Id::all().zip(&described) {
        assert_eq!(id.counterpart(), *counterpart, "{id}");
        let remedy = id.remedy().to_lowercase();
        assert!(
            remedy == "nothing" || text.contains(&remedy),
            "{id}: {remedy}"
        );
    }
}

#[test]
fn every_format_directive_of_the_log_is_described() {
    let page = page("proxy-wstunnel.conf.5");
    for note in [
        "backend",
        "mapping",
        "close-reason",
        "bytes-to-backend",
        "bytes-from-backend",
    ] {
        let escaped = note.replace('-', "\\-");
        assert!(
            page.contains(note) || page.contains(&escaped),
            "no note {note}"
        );
    }
}
