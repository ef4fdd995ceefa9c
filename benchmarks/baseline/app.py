"""What a competent Python team would write first: Celery over RabbitMQ, xmlsec, requests, SQLAlchemy. The baseline to beat."""
import base64, os, threading
import requests, xmlsec
from celery import Celery
from lxml import etree as E
from sqlalchemy import Column, DateTime, Integer, LargeBinary, MetaData, String, Table, create_engine, func
AMQP = os.environ["AMQP"]
DB = os.environ["DB"]
URL = os.environ["AGENCY"]
CA = os.environ["CA"]
KEYS = os.environ["KEYS"]
QUEUES = os.environ["QUEUES"]
app = Celery("baseline", broker=AMQP)
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=16, broker_transport_options={"confirm_publish": True},
                task_ignore_result=True, task_serializer="json", broker_connection_retry_on_startup=True, worker_enable_remote_control=False,
                task_routes={f"app.{name}": f"{QUEUES}.{name}" for name in ("seal", "submit", "record")})
S = "http://www.w3.org/2003/05/soap-envelope"
WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
DS = "http://www.w3.org/2000/09/xmldsig#"
HDR = "uri:business.document.header.types.asic.gov.au"
engine = create_engine(DB, pool_size=10); meta = MetaData()
lodgment = Table("baseline_lodgment", meta, Column("mrn", String(50), primary_key=True), Column("state", String(16)),
                 Column("reply", LargeBinary), Column("at", DateTime(timezone=True), server_default=func.now()))
event = Table("baseline_event", meta, Column("id", Integer, primary_key=True), Column("mrn", String(50), index=True), Column("code", String(20)))
_l = threading.local()
def session():
    if not hasattr(_l, "s"): _l.s = requests.Session()
    return _l.s
KEY = xmlsec.Key.from_file(f"{KEYS}/k.pem", xmlsec.KeyFormat.PEM)
HK = xmlsec.Key.from_binary_data(xmlsec.KeyData.HMAC, b"s" * 64)
CERT = base64.b64encode(open(f"{KEYS}/c.der", "rb").read()).decode()
ASSERTION = "<EncryptedAssertion xmlns='urn:oasis:names:tc:SAML:2.0:assertion'>" + base64.b64encode(b"t" * 5000).decode() + "</EncryptedAssertion>"
KI = '<ds:KeyInfo><wsse:SecurityTokenReference><wsse:Reference URI="#bst"/></wsse:SecurityTokenReference></ds:KeyInfo>'
def sig(id, alg, refs, ki=""):
    r = "".join(f'<ds:Reference URI="#{x}"><ds:Transforms><ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/></ds:Transforms><ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><ds:DigestValue/></ds:Reference>' for x in refs)
    return f'<ds:Signature xmlns:ds="{DS}" Id="{id}"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/><ds:SignatureMethod Algorithm="{alg}"/>{r}</ds:SignedInfo><ds:SignatureValue/>{ki}</ds:Signature>'
def seal_bytes(mrn, payload):
    root = E.fromstring(f'<soap:Envelope xmlns:soap="{S}" xmlns:wsu="{WSU}"><soap:Header><wsse:Security xmlns:wsse="{WSSE}" soap:mustUnderstand="true"><wsse:BinarySecurityToken wsu:Id="bst">{CERT}</wsse:BinarySecurityToken><w wsu:Id="assertion_id">{ASSERTION}</w>{sig("doc", "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256", ["body", "bst"], KI)}{sig("env", "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256", ["doc", "body", "assertion_id"])}</wsse:Security></soap:Header><soap:Body wsu:Id="body"><r><messageReferenceNumber>{mrn}</messageReferenceNumber>{payload}</r></soap:Body></soap:Envelope>')
    sec = root[0][0]; sigs = sec.findall("{%s}Signature" % DS)
    c = xmlsec.SignatureContext(); c.register_id(root[1], "Id", WSU); c.register_id(sec[0], "Id", WSU); c.key = KEY; c.sign(sigs[0])
    c = xmlsec.SignatureContext(); c.register_id(root[1], "Id", WSU); c.register_id(sec[1], "Id", WSU); c.register_id(sigs[0], "Id"); c.key = HK; c.sign(sigs[1])
    return E.tostring(root)
@app.task
def seal(mrn, payload): submit.delay(mrn, seal_bytes(mrn, payload).decode())
@app.task
def submit(mrn, envelope):
    r = session().post(URL, data=envelope.encode(), headers={"Content-Type": "application/soap+xml"}, timeout=200, verify=CA)
    record.delay(mrn, r.text)
@app.task
def record(mrn, reply):
    root = E.fromstring(reply.encode()); codes = [e.findtext("{%s}errorCode" % HDR) for e in root.iter("{%s}messageEvent" % HDR)]
    with engine.begin() as cx:
        cx.execute(lodgment.insert().values(mrn=mrn, state="accepted", reply=reply.encode()))
        for c in codes: cx.execute(event.insert().values(mrn=mrn, code=c))
