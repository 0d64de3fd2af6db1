// Receives webhooks: `node receiver.js PORT SECRET`. Needs `npm install standardwebhooks`.
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.argv[3]);

createServer(async (request: IncomingMessage, response: ServerResponse) => {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const headers = request.headers as Record<string, string>;
  try {
    const event = webhook.verify(Buffer.concat(chunks), headers) as { type: string; data: { name: string } };
    // The same id may come twice: remember what was done.
    console.log(headers["webhook-id"], event.type, event.data.name);
    response.writeHead(204).end();
  } catch (error) {
    response.writeHead(400).end(String(error));
  }
}).listen(Number(process.argv[2]), "127.0.0.1");
