// Drives the OpenAI SDK for Node as a test says and prints what came out of it.
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const { url, scenario, model = "aion-auto" } = JSON.parse(process.argv[2]);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "whatever", maxRetries: 0 });
const messages = [{ role: "user", content: "hello" }];
const days = { type: "array", items: { type: "integer" } };
const parameters = {
  type: "object",
  properties: { city: { type: "string" }, days, note: { type: "string" } },
  required: ["city", "days", "note"],
  additionalProperties: false,
};
const empty = { type: "object", properties: {}, required: [], additionalProperties: false };
const tools = [
  { type: "function", function: { name: "weather", parameters, strict: true } },
  { type: "function", function: { name: "now", parameters: empty, strict: true } },
];
const Person = z.object({ name: z.string(), age: z.number().int(), tags: z.array(z.string()) });

const told = (completion) => {
  const { message, finish_reason } = completion.choices[0];
  const calls = (message.tool_calls ?? []).map((call) => [call.id, call.function.name, call.function.arguments]);
  return { text: message.content, finish_reason, calls, usage: completion.usage };
};

const scenarios = {
  async json() {
    const { data, response } = await client.chat.completions.create({ model, messages }).withResponse();
    return { ...told(data), id: response.headers.get("x-request-id") };
  },
  async stream() {
    const stream = client.chat.completions.stream({ model, messages, stream_options: { include_usage: true } });
    const words = [];
    stream.on("content", (delta) => words.push(delta));
    return { ...told(await stream.finalChatCompletion()), words };
  },
  async tools({ streamed = false } = {}) {
    const asked = { model, messages, tools };
    const first = streamed
      ? await client.chat.completions.stream({ ...asked }).finalChatCompletion()
      : await client.chat.completions.create(asked);
    const message = first.choices[0].message;
    const results = message.tool_calls.map((call) => ({ role: "tool", tool_call_id: call.id, content: "21 °C" }));
    const second = await client.chat.completions.create({ ...asked, messages: [...messages, message, ...results] });
    return { first: told(first), second: told(second) };
  },
  tools_streamed: () => scenarios.tools({ streamed: true }),
  async structured() {
    const asked = { model, messages, response_format: zodResponseFormat(Person, "person") };
    const whole = await client.chat.completions.parse(asked);
    const streamed = await client.chat.completions.stream(asked).finalChatCompletion();
    return [whole.choices[0].message.parsed, streamed.choices[0].message.parsed];
  },
  async error() {
    try {
      await client.chat.completions.create({ model, messages });
    } catch (error) {
      const { status, type, message, code } = error;
      return { kind: error.constructor.name, status, type, code, message, retry: error.headers.get("retry-after") };
    }
  },
  async error_in_stream() {
    const words = [];
    try {
      for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
        words.push(chunk.choices[0].delta.content ?? "");
      }
    } catch (error) {
      return { kind: error instanceof OpenAI.APIError, message: error.message, text: words.join("") };
    }
  },
  async hang_up() {
    const stream = await client.chat.completions.create({ model, messages, stream: true });
    for await (const chunk of stream) if (chunk.choices[0].delta.content) break;
    return {};
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
