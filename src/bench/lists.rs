//! How long pages of a long list take, one call at a time.

use std::time::Duration;

use super::client::Client;
use super::report::{Measured, Quantiles};
use crate::clock::{Clock, SystemClock};
use crate::proto::google::longrunning::ListOperationsResponse;

/// What to list.
#[derive(Clone, Debug)]
pub struct ListOptions {
    /// `HOST:PORT` of the server.
    pub server: String,
    /// The parent whose operations are listed.
    pub parent: String,
    /// Calls of each kind.
    pub calls: usize,
    /// How many pages deep it looks.
    pub pages: usize,
}

/// Measures pages of lists, and reads of single operations that the pages named.
///
/// # Errors
/// If the server cannot be reached, refuses a call, or has fewer pages.
pub fn measure(options: &ListOptions) -> anyhow::Result<Vec<Measured>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::connect(&options.server).await?;
        let clock = SystemClock::new();
        let run = ListRun { client, clock: &*clock, options };
        let (names, tokens) = run.walk().await?;
        let mut results = vec![
            run.pages("first page", "", &[String::new()]).await?,
            run.pages("deep page", "", &tokens).await?,
            run.pages("failed", "state() = FAILED", &[String::new()]).await?,
            run.pages("not done", "done = false", &[String::new()]).await?,
        ];
        results.push(run.gets(&names).await?);
        Ok(results)
    })
}

struct ListRun<'a> {
    client: Client,
    clock: &'a dyn Clock,
    options: &'a ListOptions,
}

impl ListRun<'_> {
    /// Goes from page to page. Returns some names of each page, and the tokens of the last pages.
    async fn walk(&self) -> anyhow::Result<(Vec<String>, Vec<String>)> {
        let (mut names, mut tokens, mut token) = (Vec::new(), Vec::new(), String::new());
        for number in 1..self.options.pages {
            let page = self.page("", &token).await?;
            names.extend(page.operations.into_iter().step_by(10).map(|operation| operation.name));
            token = page.next_page_token;
            anyhow::ensure!(
                !token.is_empty(),
                "{} has {number} pages, and {} are asked for",
                self.options.parent,
                self.options.pages
            );
            if number + TOKENS >= self.options.pages {
                tokens.push(token.clone());
            }
        }
        Ok((names, tokens))
    }

    /// Reads pages with each of the tokens in turn.
    async fn pages(
        &self,
        name: &'static str,
        filter: &str,
        tokens: &[String],
    ) -> anyhow::Result<Measured> {
        let mut samples = Vec::with_capacity(self.options.calls);
        for number in 0..WARM_UP + self.options.calls {
            let token = &tokens[number % tokens.len()];
            let began = self.clock.elapsed();
            let page = self.page(filter, token).await?;
            let took = self.clock.elapsed().saturating_sub(began);
            anyhow::ensure!(!page.operations.is_empty(), "{name}: nothing is listed");
            if number >= WARM_UP {
                samples.push(took);
            }
        }
        Ok(measured(name, samples))
    }

    /// Reads operations, each of which was listed.
    async fn gets(&self, names: &[String]) -> anyhow::Result<Measured> {
        let mut samples = Vec::with_capacity(self.options.calls);
        for number in 0..self.options.calls {
            // Steps without a common divisor lead all over the list.
            let name = &names[number * STEP % names.len()];
            let began = self.clock.elapsed();
            self.client.get(name).await?;
            samples.push(self.clock.elapsed().saturating_sub(began));
        }
        Ok(measured("get", samples))
    }

    async fn page(&self, filter: &str, token: &str) -> anyhow::Result<ListOperationsResponse> {
        Ok(self.client.list(&self.options.parent, filter, token).await?)
    }
}

fn measured(name: &'static str, samples: Vec<Duration>) -> Measured {
    let count = samples.len() as u64;
    let quantiles = vec![Quantiles::of("call", samples)];
    Measured { name, per_second: None, count, quantiles, cpu: Vec::new(), memory: Vec::new() }
}

/// The last pages that are read again and again.
const TOKENS: usize = 10;
const WARM_UP: usize = 20;
const STEP: usize = 7_919;
