//! Tunnels that are opened and held. Standard input steers: a line `broadcast` sends one message through each and waits
//! for the echoes; its end, or anything else, ends.

use crate::client::{CHUNK, Pool, TICK, Target};
use crate::cpu::Sample;
use crate::histogram::Histogram;
use crate::json::Object;
use crate::pingpong::{PingPong, Pong};
use crate::sys;
use std::io::{self, Read};
use std::time::{Duration, Instant};

const STDIN: u64 = u64::MAX;
/// How long the echoes of a broadcast may take.
const BROADCAST: Duration = Duration::from_secs(60);
/// Messages that are sent before echoes are looked at.
const AT_ONCE: usize = 64;

pub fn run(target: &Target, conns: usize, size: usize) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut pool = Pool::new(conns)?;
    let before = Sample::now(&target.watches);
    let began = Instant::now();
    pool.open_all(target, &mut buffer, target.window)?;
    let took = began.elapsed();
    let after = Sample::now(&target.watches);
    let result = Object::default()
        .with("opened", pool.open())
        .with("seconds", took.as_secs_f64())
        .with("cpu", before.until(&after, &target.watches))
        .with("faults", pool.faults.json());
    println!("{result}");
    pool.epoll.add(0, STDIN, sys::READABLE)?;
    let mut events = sys::no_events();
    let mut pingpong = PingPong::new(conns, size);
    loop {
        let count = pool.wait(&mut events, TICK)?;
        for event in &events[..count] {
            if event.u64 != STDIN {
                if event.events & sys::HANGUP != 0 {
                    pool.fail(event.u64 as usize, "closed while idle");
                }
                continue;
            }
            let mut line = [0; 64];
            let read = io::stdin().lock().read(&mut line)?;
            if !line[..read].starts_with(b"broadcast") {
                return Ok(());
            }
            println!(
                "{}",
                broadcast(target, &mut pool, &mut pingpong, &mut buffer)?
            );
        }
    }
}

fn broadcast(
    target: &Target,
    pool: &mut Pool,
    pingpong: &mut PingPong,
    buffer: &mut [u8],
) -> io::Result<Object> {
    let mut events = sys::no_events();
    let mut histogram = Histogram::default();
    let (mut next, mut waiting) = (0, 0);
    let before = Sample::now(&target.watches);
    let began = Instant::now();
    while (next < pool.conns.len() || waiting > 0) && began.elapsed() < BROADCAST {
        let end = pool.conns.len().min(next + AT_ONCE);
        for index in next..end {
            if let Some(conn) = &mut pool.conns[index] {
                match pingpong.send(index, conn) {
                    Ok(()) => waiting += 1,
                    Err(error) => pool.fail(index, error),
                }
            }
        }
        next = end;
        let all_sent = next == pool.conns.len();
        let timeout = if all_sent { TICK } else { Duration::ZERO };
        let count = pool.wait(&mut events, timeout)?;
        for event in &events[..count] {
            let index = event.u64 as usize;
            let Some(Some(conn)) = pool.conns.get_mut(index) else {
                continue;
            };
            let was_waiting = pingpong.is_waiting(index);
            match pingpong.receive(index, conn, buffer) {
                Ok(Pong::Waiting) => {}
                Ok(Pong::Complete(sent)) => {
                    histogram.record(sent.elapsed());
                    waiting -= 1;
                }
                Err(error) => {
                    waiting -= usize::from(was_waiting);
                    pool.fail(index, error);
                }
            }
        }
    }
    let took = began.elapsed();
    let after = Sample::now(&target.watches);
    for _ in 0..waiting {
        pool.faults.add("no echo of a broadcast");
    }
    Ok(Object::default()
        .with("units", histogram.total())
        .with("seconds", took.as_secs_f64())
        .latency(&histogram)
        .with("cpu", before.until(&after, &target.watches))
        .with("faults", pool.faults.json()))
}
