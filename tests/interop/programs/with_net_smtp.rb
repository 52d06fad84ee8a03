# net/smtp, of Ruby's standard library.
require "json"
require "net/smtp"

job = JSON.parse(File.read(ARGV[0]))
client = Net::SMTP.new("localhost", job["port"])
client.read_timeout = 300
if job["is_tls"]
  client.enable_starttls(Net::SMTP.default_ssl_context({ ca_file: job["ca_file"] }))
else
  client.disable_starttls
end
login = job["user"].empty? ? {} : { user: job["user"], secret: job["password"], authtype: :plain }
wanted = [("BODY=8BITMIME" if job["is_8bit"]), ("SMTPUTF8" if job["is_utf8"])].compact
sender = Net::SMTP::Address.new(job["sender"], wanted)
client.start(helo: "ruby.example", **login) do |session|
  session.send_message File.binread(job["wire"]), sender, job["recipient"]
end
