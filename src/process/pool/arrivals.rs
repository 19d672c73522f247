//! What the workers say: the engine's part that takes answers to who asked.

use super::message::Reply;
use super::state::{Chore, Lender, Outcome, Output, Reason, Receiver, State};

impl<R: Receiver, L: Lender> State<R, L> {
    /// Delivers what has arrived.
    pub(super) fn drain(&mut self, lender: &L) -> usize {
        let mut delivered = 0;
        let mut damaged = Vec::new();
        let mut broken = None;
        let (mut tasks, mut busy_ns) = (0, 0);
        let mut body = std::mem::take(&mut self.body);
        let all = self.is_within_write();
        for (key, worker) in &mut self.workers {
            while all || !worker.is_speaking {
                body.clear();
                let kind = match worker.link.receive(&mut body) {
                    Ok(Some(kind)) => Reply::from_number(kind),
                    Ok(None) => break,
                    Err(_) => None,
                };
                let outcome = match kind {
                    Some(Reply::Value) => Outcome::Value(&body),
                    Some(Reply::Error) => Outcome::Error(&body),
                    Some(Reply::Stdout | Reply::Stderr) => {
                        let is_stderr = kind == Some(Reply::Stderr);
                        let output = Output {
                            worker: *key,
                            started_ns: worker.started_ns,
                            is_stderr,
                            text: body.clone(),
                        };
                        self.outputs.push_back(output);
                        worker.is_speaking = true;
                        delivered += 1;
                        continue;
                    }
                    Some(Reply::Broken) => {
                        broken = Some(String::from_utf8_lossy(&body).into_owned());
                        continue;
                    }
                    None => {
                        damaged.push((*key, worker.pid));
                        break;
                    }
                };
                let Some(sent) = worker.sent.front_mut() else {
                    damaged.push((*key, worker.pid));
                    break;
                };
                let index = sent.task.first + u64::from(sent.answered);
                if sent.task.receiver.deliver(index, outcome, Some(&worker.memory)) {
                    self.chores.push_back(Chore::Publish(sent.task.receiver.clone()));
                }
                delivered += 1;
                sent.answered += 1;
                worker.items -= 1;
                self.outstanding -= 1;
                if sent.answered == sent.task.head.count
                    && let Some(sent) = worker.sent.pop_front()
                {
                    sent.task.blocks.into_iter().for_each(|block| lender.release(block));
                }
            }
            let meter = worker.link.meter();
            tasks += meter.tasks.wrapping_sub(worker.meter.tasks);
            busy_ns += meter.busy_ns.wrapping_sub(worker.meter.busy_ns);
            worker.meter = meter;
        }
        self.body = body;
        if tasks > 0 && tasks < u64::from(u32::MAX) {
            let mean = (busy_ns as f64 / tasks as f64).max(50.0);
            let old = if self.mean_ns == 0.0 { mean } else { self.mean_ns };
            // Quick to believe that tasks take longer, slow to believe that they don't.
            let weight = if mean > old { 0.7 } else { 0.3 };
            self.mean_ns = old + weight * (mean - old);
        }
        for (key, pid) in damaged {
            // As if what it was at had killed it, which it did.
            self.doom(lender, key, Reason::Died { pid, exitcode: -libc::SIGKILL });
        }
        if let Some(reason) = broken {
            self.break_down(lender, &reason);
        }
        delivered
    }
}
