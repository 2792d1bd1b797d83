// Drives the Anthropic SDK for Node as a test says and prints what came out of it.
import Anthropic from "@anthropic-ai/sdk";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { z } from "zod";

const { url, scenario, model = "aion-auto" } = JSON.parse(process.argv[2]);
const client = new Anthropic({ baseURL: url, apiKey: "whatever", maxRetries: 0 });
const messages = [{ role: "user", content: "hello" }];
const days = { type: "array", items: { type: "integer" } };
const input_schema = {
  type: "object",
  properties: { city: { type: "string" }, days, note: { type: "string" } },
  required: ["city", "days", "note"],
};
const tools = [
  { name: "weather", description: "Forecast of a city.", input_schema },
  { name: "now", input_schema: { type: "object", properties: {} } },
];
const Person = z.object({ name: z.string(), age: z.number().int(), tags: z.array(z.string()) });
const asked = { model, max_tokens: 500, messages };

const told = ({ content, stop_reason, usage }) => ({
  text: content.map((block) => (block.type === "text" ? block.text : "")).join(""),
  thinking: content.map((block) => (block.type === "thinking" ? block.thinking : "")).join(""),
  calls: content.filter((block) => block.type === "tool_use").map((block) => [block.id, block.name, block.input]),
  stop_reason,
  usage,
});

const scenarios = {
  async json() {
    const { data, response } = await client.messages.create(asked).withResponse();
    return { ...told(data), id: response.headers.get("x-request-id") };
  },
  async stream() {
    const words = [];
    const stream = client.messages.stream(asked).on("text", (delta) => words.push(delta));
    return { ...told(await stream.finalMessage()), words };
  },
  async tools({ streamed = false } = {}) {
    const first = streamed
      ? await client.messages.stream({ ...asked, tools }).finalMessage()
      : await client.messages.create({ ...asked, tools });
    const results = first.content
      .filter((block) => block.type === "tool_use")
      .map((block) => ({ type: "tool_result", tool_use_id: block.id, content: "21 °C" }));
    const turns = [...messages, { role: "assistant", content: first.content }, { role: "user", content: results }];
    const second = await client.messages.create({ ...asked, tools, messages: turns });
    return { first: told(first), second: told(second) };
  },
  tools_streamed: () => scenarios.tools({ streamed: true }),
  async structured() {
    const formatted = { ...asked, output_config: { format: zodOutputFormat(Person) } };
    const whole = await client.messages.parse(formatted);
    const streamed = await client.messages.stream(formatted).finalMessage();
    return [whole.parsed_output, streamed.parsed_output];
  },
  async error() {
    try {
      await client.messages.create(asked);
    } catch (error) {
      const { status, type, message } = error;
      return { kind: error.constructor.name, status, type, message, retry: error.headers.get("retry-after") };
    }
  },
  async error_in_stream() {
    const words = [];
    try {
      const stream = client.messages.stream(asked).on("text", (delta) => words.push(delta));
      await stream.finalMessage();
    } catch (error) {
      return { kind: error instanceof Anthropic.APIError, message: error.message, text: words.join("") };
    }
  },
  async hang_up() {
    const stream = await client.messages.create({ ...asked, stream: true });
    for await (const event of stream) if (event.type === "content_block_delta") break;
    return {};
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
