//! Tunnels that are held, an echo through one of them every millisecond, and a status that is asked for meanwhile. Standard
//! input steers: once the tunnels are open, a line begins the asking.

use crate::client::{CHUNK, Pool, Target};
use crate::json::Object;
use crate::pingpong::{PingPong, Pong};
use crate::sys;
use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// From one echo to the next.
const PACE: Duration = Duration::from_millis(1);
/// How long an answer may take, or an echo.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between what is measured.
const GAP: Duration = Duration::from_millis(5);
/// How long the echoes are looked at alone, before anything is known of how long an answer takes.
const FIRST: Duration = Duration::from_millis(50);

/// What is asked for, and of whom.
pub struct Question {
    pub name: String,
    pub addr: SocketAddrV4,
    pub path: String,
}

/// One answer: how long the echoes were looked at alone, and when it was asked for.
struct Answer {
    question: usize,
    alone: (Instant, Instant),
    meanwhile: (Instant, Instant),
    bytes: usize,
}

/// When a message was sent, and when its echo was back.
type Echo = (Instant, Instant);

pub fn run(
    target: &Target,
    conns: usize,
    size: usize,
    questions: Vec<Question>,
    rounds: usize,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut pool = Pool::new(conns)?;
    pool.open_all(target, &mut buffer, target.window)?;
    let opened = Object::default().with("opened", pool.open());
    println!("{}", opened.with("faults", pool.faults.json()));
    if io::stdin().lock().read(&mut [0; 64])? == 0 {
        return Ok(());
    }
    let names: Vec<_> = questions.iter().map(|it| it.name.clone()).collect();
    let asking = thread::spawn(move || ask_all(&questions, rounds));
    let echoes = echo(&mut pool, size, &mut buffer, || asking.is_finished())?;
    let answers = asking
        .join()
        .map_err(|_| io::Error::other("who asks panicked"))??;
    let result = names
        .iter()
        .enumerate()
        .fold(Object::default(), |object, (number, name)| {
            let answers: Vec<_> = answers.iter().filter(|it| it.question == number).collect();
            object.with(name, told(&answers, &echoes))
        });
    let result = Object::default()
        .with("echoes", echoes.len())
        .with("answers", result)
        .with("faults", pool.faults.json());
    println!("{result}");
    Ok(())
}

/// Has the tunnels echo in turn until that is over; none is asked for more before its last echo is back.
fn echo(
    pool: &mut Pool,
    size: usize,
    buffer: &mut [u8],
    is_over: impl Fn() -> bool,
) -> io::Result<Vec<Echo>> {
    let mut pingpong = PingPong::new(pool.conns.len(), size);
    let mut events = sys::no_events();
    let (mut echoes, mut next, mut due, mut waiting) = (Vec::new(), 0, Instant::now(), 0);
    loop {
        if waiting == 0 && is_over() {
            return Ok(echoes);
        }
        let now = Instant::now();
        if now >= due && !is_over() {
            // What was missed is not caught up with.
            due = now + PACE;
            let index = next % pool.conns.len();
            next += 1;
            if !pingpong.is_waiting(index)
                && let Some(conn) = &mut pool.conns[index]
            {
                match pingpong.send(index, conn) {
                    Ok(()) => waiting += 1,
                    Err(error) => pool.fail(index, error),
                }
            }
        }
        let count = pool.wait(&mut events, PACE)?;
        for event in &events[..count] {
            let index = event.u64 as usize;
            let Some(conn) = &mut pool.conns[index] else {
                continue;
            };
            let was_waiting = pingpong.is_waiting(index);
            match pingpong.receive(index, conn, buffer) {
                Ok(Pong::Waiting) => {}
                Ok(Pong::Complete(sent)) => {
                    echoes.push((sent, Instant::now()));
                    waiting -= 1;
                }
                Err(error) => {
                    waiting -= usize::from(was_waiting);
                    pool.fail(index, error);
                }
            }
        }
        if waiting > 0
            && echoes
                .last()
                .is_some_and(|last| last.1.elapsed() > PATIENCE)
        {
            return Err(io::Error::other("no echo comes back"));
        }
    }
}

fn ask_all(questions: &[Question], rounds: usize) -> io::Result<Vec<Answer>> {
    let mut answers = Vec::new();
    let mut spans = vec![FIRST; questions.len()];
    let mut body = Vec::new();
    for _ in 0..rounds {
        for (number, question) in questions.iter().enumerate() {
            thread::sleep(GAP);
            let begun = Instant::now();
            thread::sleep(spans[number]);
            let alone = (begun, Instant::now());
            thread::sleep(GAP);
            let begun = Instant::now();
            ask(question, &mut body)?;
            let meanwhile = (begun, Instant::now());
            spans[number] = meanwhile.1 - meanwhile.0;
            let bytes = check(&body)?;
            answers.push(Answer {
                question: number,
                alone,
                meanwhile,
                bytes,
            });
        }
    }
    Ok(answers)
}

/// The whole answer, head and body.
fn ask(question: &Question, answer: &mut Vec<u8>) -> io::Result<()> {
    answer.clear();
    let mut stream = TcpStream::connect(question.addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        question.path
    );
    stream.write_all(request.as_bytes())?;
    stream.read_to_end(answer)?;
    Ok(())
}

/// The length of the body, which has to be as long as the head says.
fn check(answer: &[u8]) -> io::Result<usize> {
    let length = crate::ws::head_length(answer).unwrap_or_default();
    let (head, body) = answer.split_at(length);
    let head = String::from_utf8_lossy(head);
    let said = crate::ws::field(&head, "Content-Length").and_then(|text| text.parse().ok());
    if !head.starts_with("HTTP/1.1 200 ") || said != Some(body.len()) {
        let line = head.lines().next().unwrap_or_default();
        return Err(io::Error::other(format!(
            "{} bytes behind {line}",
            body.len()
        )));
    }
    Ok(body.len())
}

fn told(answers: &[&Answer], echoes: &[Echo]) -> Object {
    let each = |value: &dyn Fn(&Answer) -> String| {
        let values: Vec<_> = answers.iter().map(|answer| value(answer)).collect();
        format!("[{}]", values.join(","))
    };
    let ms = |span: Duration| format!("{:.3}", span.as_secs_f64() * 1e3);
    let slowest = |span| {
        let longest = sent_in(echoes, span).max();
        longest.map_or("null".to_owned(), ms)
    };
    Object::default()
        .with("bytes", each(&|it| it.bytes.to_string()))
        .with("ms", each(&|it| ms(it.meanwhile.1 - it.meanwhile.0)))
        .with("alone_ms", each(&|it| slowest(it.alone)))
        .with("meanwhile_ms", each(&|it| slowest(it.meanwhile)))
        .with(
            "echoes",
            each(&|it| sent_in(echoes, it.meanwhile).count().to_string()),
        )
}

/// How long those echoes took whose messages were sent in this span.
fn sent_in(echoes: &[Echo], (begin, end): (Instant, Instant)) -> impl Iterator<Item = Duration> {
    let during = echoes
        .iter()
        .filter(move |(sent, _)| (begin..=end).contains(sent));
    during.map(|(sent, back)| *back - *sent)
}
