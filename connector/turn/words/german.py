"""German: when a caller's words are a whole turn. The verb's second part comes last, and so tells most."""

from __future__ import annotations

from connector.turn.words.table import Words, listed, patterns, phrases, words

_BE = words("bin bist ist sind seid war waren wäre wären")
_HAVE = words("habe hab hast hat haben habt hatte hatten hätte hätten hätt")
_MODAL = words(
    """kann kannst können könnt könnte könnten muss müssen müsste müssten soll sollen sollte sollten will wollen wollte
    wollten möchte möchten darf dürfen dürfte dürften würde würden"""
)
_BECOME = words("wird werden wurde wurden")
_AUXILIARIES = _BE | _HAVE | _MODAL | _BECOME
_PRONOUNS = words("ich er sie wir es man du ihr")
_ARTICLES = words(
    """der die das den dem des ein eine einen einem einer eines mein meine meinen meinem meiner ihr ihre ihren ihrem
    ihrer unser unsere unseren unserem unserer kein keine keinen keinem keiner dein deine deinen sein seine seinen
    dieser diese diesen diesem dieses"""
)

_WEAK = words(
    """brauch bestell bezahl zahl kauf verkauf frag sag such buch bestätig kündig reservier funktionier stornier
    reklamier telefonier informier aktualisier installier organisier hol mach schick wart glaub hör wohn leb dank
    hoff wünsch änder verschieb vereinbar besuch erreich erklär wiederhol repariere reparier kost beantrag verläng
    verlänger erneuer versuch lös lieg gehör reich pass stimm fehl klapp dauer öffn schließ lern arbeit meld storn
    liefer interessier buchstabier nutz benutz verwend prüf überprüf erhöh speicher lösch teil beschwer versicher
    miet"""
)
_STRONG = words(
    """sein tun tut getan gehen geht gegangen kommen kommt gekommen sehen sieht gesehen geben gibt gegeben nehmen nimmt
    nehme genommen finden findet finde gefunden sprechen spricht spreche gesprochen helfen hilft helfe geholfen
    bringen bringt gebracht bekommen bekommt bekomme erhalten erhält erhalte verlieren verloren vergessen vergisst
    vergesse schreiben schreibt schreibe geschrieben stehen steht stehe gestanden bleiben bleibt geblieben lassen
    lässt lasse gelassen wissen weiß wusste gewusst denken denkt denke gedacht kennen kennt kenne gekannt heißen
    heißt heiße verstehen versteht verstehe verstanden laufen läuft gelaufen fahren fährt fahre gefahren ziehen
    zieht gezogen halten hält halte gehalten treffen trifft getroffen lesen liest gelesen essen isst gegessen
    trinken trinkt rufen ruft rufe gerufen werden worden geworden haben gehabt gewesen können müssen dürfen sollen
    wollen schließen geschlossen verschieben verschoben verbinden verbunden unterschreiben unterschrieben beginnen
    beginnt begonnen fliegen fliegt geflogen leihen abheben gesendet senden sendet gesandt überweisen überwiesen
    widerrufen erscheinen bieten bietet anbieten anbietet angeboten abholen abgeholt abholt anrufen angerufen anruft
    zurückrufen zurückgerufen einloggen eingeloggt anmelden angemeldet anmeldet abmelden abgemeldet zurückgeben
    zurückgegeben zurückschicken zurückgeschickt umtauschen umgetauscht ausmachen absagen abgesagt zusagen mitteilen
    mitgeteilt mitnehmen mitgenommen mitbringen nachsehen nachschauen nachfragen vorbeikommen ankommen angekommen
    ankommt aufmachen aufmacht zumachen umziehen umgezogen einzahlen eingezahlt abbuchen abgebucht abgebrochen
    ausgefallen ausfallen eingegangen kaputtgegangen weitergeben weiterleiten durchstellen verlegen verlegt
    zustellen zugestellt einstellen ausschalten einschalten berechnet berechnen gesperrt sperren entsperren bezahlt
    bestellt verkauft besucht erreicht versucht erklärt wiederholt geöffnet öffnet schließt gekostet kosten kostet
    gekauft geliefert angekündigt durchgegangen freischalten zurücksetzen einlösen eintragen austragen verbunden
    geklappt abgelaufen verfügbar zuständig möglich offen kaputt frei"""
)

_UNITS = ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun")
_TENS = dict(
    zip(listed("zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig"), range(20, 100, 10), strict=True)
)
_NUMBERS = (
    {word: str(number) for number, word in enumerate(_UNITS)}
    | {
        word: str(number)
        for number, word in enumerate(
            listed("zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn"), 10
        )
    }
    | {ten: str(value) for ten, value in _TENS.items()}
    | {
        f"{'ein' if unit == 1 else _UNITS[unit]}und{ten}": str(value + unit)
        for ten, value in _TENS.items()
        for unit in range(1, 10)
    }
    | {"zwo": "2"}
)

GERMAN = Words(
    fillers=words("äh ähm öh öhm ehm hm hmm mm tja em"),
    backchannels=phrases(
        """
        mhm
        mm hm
        mm hmm
        hm
        hmm
        aha
        ah
        ach
        ach so
        achso
        ja
        jaja
        genau
        ok
        okay
        gut
        alles klar
        klar
        richtig
        stimmt
        verstehe
        ich verstehe
        verstanden
        in ordnung
        super
        prima
        schön
        sicher
        natürlich
        """
    ),
    lead_ins=words("also und aber naja nun ach oh dann denn oder eigentlich ähm äh so weil"),
    answers=phrases(
        """
        ja
        nein
        ne
        nee
        doch
        jawohl
        gerne
        gern
        genau
        ok
        okay
        klar
        alles klar
        natürlich
        selbstverständlich
        sicher
        richtig
        stimmt
        gut
        super
        prima
        perfekt
        bitte
        danke
        danke schön
        dankeschön
        vielen dank
        danke sehr
        besten dank
        tschüss
        tschüs
        ciao
        auf wiederhören
        auf wiedersehen
        bis dann
        bis bald
        bis später
        schönen tag noch
        einen schönen tag
        in ordnung
        mhm
        entschuldigung
        auf keinen fall
        auf jeden fall
        """
    ),
    wholes=phrases(
        """
        wie bitte
        was nun
        was jetzt
        wie geht's
        was
        wer
        wann
        wo
        warum
        wieso
        wie viel
        ich auch
        ich nicht
        ja bin ich
        ja habe ich
        das war's
        das wars
        das ist alles
        weiß ich nicht
        keine ahnung
        nichts
        nichts mehr
        beide
        beides
        noch nicht
        noch einmal
        nochmal
        """
    ),
    announcements=phrases(
        """
        hallo
        guten tag
        guten morgen
        guten abend
        grüß gott
        grüß sie
        hi
        moin
        servus
        moment
        einen moment
        moment bitte
        augenblick
        einen augenblick
        warten sie
        ich brauche hilfe
        können sie mir helfen
        ich bräuchte hilfe
        """
    ),
    courtesies=phrases(
        """
        bitte
        danke
        danke schön
        vielen dank
        tschüss
        auf wiederhören
        """
    ),
    asides=patterns(
        """
        glaube/denke/hoffe/meine ich
        """
    ),
    cannot_end=_AUXILIARIES
    | _ARTICLES - words("das die der sie ihr seine")
    | words(
        """und oder aber denn weil dass ob wenn falls obwohl während sondern als wie sowie bzw für mit von zu zum zur
        bei beim im in am ans auf aus nach seit vor wegen gegen ohne durch über unter zwischen um bis an statt außer
        bezüglich trotz neben hinter innerhalb ihr ich wir er man sehr ganz ziemlich zu welche welcher welches
        welchen wessen wer wann wo wohin woher warum was wieviel so etwa ungefähr zwar nächste nächsten nächster
        nächstes letzte letzten letzter vom ins herr frau dr sogar entweder weder möchte würde könnte müsste sollte
        wollte hätte noch damit sodass jede jeden jeder alle unser ein"""
    ),
    cannot_end_after=patterns(
        """
        @auxiliary sie/ihr/es/man/du
        @auxiliary sie mir/mich/uns/das/die
        ^ * @auxiliary sie mir/mich/uns
        @auxiliary ich mir/mich/da/die/das
        @auxiliary sie noch/auch/schon/vielleicht
        die/der/das nächste/letzte/erste/zweite/andere/ganze/neue/alte
        für/mit/von/auf/an/in/bei/zu/über der/die/das
        ^ der/die/das
        ^ @article *  ist/sind/war/hat/wird
        nummer/name/adresse/code/mail/problem/frage ist/lautet/war
        ^ das/es ist/war/wäre
        ist/sind/war/ob/dass/weil/wenn/und/oder/aber die/der/das/sie/es
        gibt es
        rufen/ruf sie/mich
        ^ rufen sie mich
        ^ ich rufe
        ^ ich habe
        @article @article
        ich heiße
        ^ ich interessiere mich
        ^ was/wann/wo/warum *
        ^ schicken/senden/geben/zeigen/nennen/buchen/stornieren/ändern/nehmen sie
        ^ ich bin
        ich wohne
        verbinden sie mich
        schicken/senden/geben/zeigen/bringen/sagen sie mir
        """,
        auxiliary=_AUXILIARIES,
        article=_ARTICLES,
    ),
    may_end=patterns(
        """
        was/wie/wer/wo ist das/es/sie
        wie/was * ist/war/wäre/sind es/das/sie
        was gibt es
        was/welche/welches/welchen/wie * gibt es
        wie viel/viele * gibt es
        wie sie möchten/wollen/wünschen
        ja/nein/doch/noch ich/wir @auxiliary
        wie/wo/wer sind/ist sie/er
        wie viel ist das
        wie viel/viele * ist/haben es/wir
        glaube/denke/hoffe schon/nicht/so
        ja/nein/doch das/es @auxiliary
        immer/immer/jetzt/heute/gestern noch
        schönen/guten tag noch
        was ist los
        nicht wissen/sagen
        ihnen sagen
        so schnell/bald wie möglich
        das/es/nichts/ihnen sagen
        wie gesagt
        nicht/nie/gut/schnell/bitte/mich/uns an/auf/aus/ab/ein/um/zu/vor/mit/bei/nach
        sonst noch was
        zu/ab und zu
        danke sehr
        """,
        auxiliary=_AUXILIARIES,
    ),
    particles={
        # An auxiliary's infinitive after a modal: "wird es morgen windig sein".
        **dict.fromkeys(("sein", "haben", "werden", "können", "müssen", "wollen"), _MODAL | _BECOME),
        "ein": words("stelle stellen stell füge fügen füg schalte schalten schalt trage tragen zahle zahlen reiche"),
        "ab": words("hole holen sage sagen melde melden buche buchen lehne schließe schicke gebe geben"),
        "an": words(
            """mach sind zeige zeigen zeig stelle stellen schalte schalten mache machen höre hören probiere passen rufe
            rufen ruf ruft fängt fangen fange nehme nehmen biete bieten bietet melde kommt zeigt schaue"""
        ),
        "auf": words(
            """hält laden lädt mach ist sind mache machen macht hört hören legen lege nehmen steht schreiben gebe geben
            passt fällt"""
        ),
        "aus": words(
            """schaltet mach ist sind schalt drucke drucken mache machen schalte schalten sieht fällt füllen fülle
            reicht geht gehe probieren probiere"""
        ),
        "mit": words("nehme nehmen bringe bringen teile teilen komme kommen kommt"),
        "zu": words(
            """schließe schließen sind hörst mach ist steht mache machen macht sage trifft stimme schicken höre hören"""
        ),
        "vor": words("lese lies merke merken lesen stelle stellen schlage schlagen kommt habe haben"),
        "nach": words("schaue schauen sehe sehen frage fragen denke"),
        "durch": words("stelle stellen gebe geben komme kommt"),
        "um": words("ziehe ziehen tausche tauschen buchen buche stellen"),
        "bei": words("lege legen trage bringen"),
    },
    # "rufe" is a call to somebody only with its particle, which callers put at the very end.
    separated={"rufe": words("an zurück"), "fängt": words("an"), "ruf": words("an zurück")},
    transitive=words("sagen fragen wissen gesagt brauche brauchen bräuchte suche hätte will benötige"),
    object_before=words("das es die den was"),
    fronted=words("was welche welchen welches wen wie alles nichts etwas das"),
    auxiliaries=_AUXILIARIES,
    subjects=words("ich er wir man niemand nichts jemand dann"),
    verbs=_STRONG
    | _AUXILIARIES
    | frozenset(
        form
        for stem in _WEAK
        for ending in ("en", "e", "t", "et", "st", "te", "ten", "n")
        for form in (stem + ending, f"ge{stem}{ending}")
    )
    | words("bräuchte bräuchten geht's"),
    determiners=_ARTICLES,
    indirect=words("ob dass weil wenn falls was wo wann wie warum wer welche welcher welches wieviel viel"),
    closing=_AUXILIARIES,
    coordinators=words("und aber oder"),
    verb_final=True,
    subordinators=words("wenn falls weil obwohl während sobald solange ob dass"),
    embedding=words("wenn falls weil obwohl ob dass was wo wann wie warum wieso wer wieviel welche welcher welches"),
    # A modal verb's infinitive and a perfect's participle come last: before them nothing is said yet.
    brackets=patterns(
        """
        soll/kann/muss/darf/könnte es/das/der/die/mein/meine
        kannst/könntest/würdest/kann/darfst du
        können/könnten/könnte/kann/dürfte/darf/würden/würde/sollen/soll/müssen/muss sie/ich/wir/man
        ich/wir würde/würden/kann/könnte/können/muss/müssen/müsste/soll/sollte/darf
        ich wollte
        ich/wir habe/haben letzte/letzten/gestern/heute/schon/bereits/vor/mir/mich/nie/am/bei/ihnen/sie
        """
    ),
    late_endings=("iert", "lst", "rst", "en"),
    infinitive_endings=("iert", "en", "eln", "ern"),
    not_infinitives=words(
        """personen kosten daten öffnungszeiten unterlagen zeiten karten stunden wochen tagen minuten morgen namen
        rechnungen nächsten letzten einen meinen keinen ihren unseren den denen ihnen dran daran guten schönen"""
    ),
    possessives=words("mein meine meinen meinem meiner unser unsere"),
    requests=patterns(
        """
        ich/wir möchte/möchten/will/wollen/brauche/brauchen/bräuchte/benötige/suche
        ich/wir möchte/möchten gern/gerne
        ich/wir würde/würden gern/gerne
        ich/wir hätte/hätten/will/wollen gern/gerne
        ich wollte
        """
    ),
    pending=patterns(
        """
        ist/wäre es möglich
        nicht sicher
        """
    ),
    topics=patterns(
        """
        ich/wir habe/hab/hätte/haben ein/eine/mal/da/noch/hier/nur/folgendes
        es geht um
        es gibt ein/eine
        """
    ),
    narrations=patterns(
        """
        ich bin kunde/kundin
        ich bin seit
        """
    ),
    scheduled=words("tisch termin zimmer reservieren buchen verschieben vereinbaren verlegen"),
    times=words(
        """montag dienstag mittwoch donnerstag freitag samstag sonnabend sonntag montags dienstags heute morgen
        übermorgen abend vormittag nachmittag mittag nacht woche wochenende monat jahr uhr januar februar märz april
        mai juni juli august september oktober november dezember jetzt bald sofort später früher freitagabend
        montagmorgen samstagabend sonntagmorgen dienstagmorgen halb viertel ostern weihnachten"""
    ),
    details=words(
        """für mit von zu zum zur bei beim im in am ans auf aus nach seit vor wegen gegen ohne durch über unter
        zwischen um bis an dass ob weil wenn was wo wann wie per"""
    ),
    continuations=words("und aber weil dass jedoch"),
    numbers=_NUMBERS,
    letters={
        "ypsilon": "y",
        "eszett": "ß",
        "bindestrich": "-",
        "minus": "-",
        "unterstrich": "_",
        "schrägstrich": "/",
        "plus": "+",
        "doppel s": "ss",
        "doppel t": "tt",
        "doppel l": "ll",
        "doppel n": "nn",
        "doppel m": "mm",
    },
    spelled_as=patterns("wie"),
    scales=words("hundert tausend"),
    number_nouns=words(
        """nummer kundennummer bestellnummer telefonnummer handynummer rechnungsnummer vertragsnummer auftragsnummer
        kontonummer postleitzahl plz code pin iban aktenzeichen rückrufnummer sendungsnummer mobilnummer vorwahl"""
    ),
    phone_nouns=words("telefonnummer handynummer rückrufnummer mobilnummer"),
    email_nouns=words("email mail mailadresse emailadresse"),
    copulas=words("ist lautet heißt war wäre"),
    clock=words("um seit im bis gegen ab nach vor halb viertel jahr am"),
    at_signs=words("at ät et klammeraffe"),
    dots=words("punkt dot"),
    postcode_nouns=words("postleitzahl plz"),
    months=words("januar februar märz april mai juni juli august september oktober november dezember"),
    # Numbers differ in length; mobile ones have eleven or twelve digits.
    phone_digits=11,
    trunk_phone_digits=11,
    questions=(
        ("EMAIL", phrases("email\nmail\nmailadresse\nemailadresse\nemail adresse")),
        ("POSTCODE", phrases("postleitzahl\nplz")),
        ("PHONE", phrases("telefonnummer\nhandynummer\nrückrufnummer\nmobilnummer\nnummer erreichen")),
        ("BIRTHDATE", phrases("geburtsdatum\ngeboren\ngeburtstag")),
        ("SPELLING", phrases("buchstabieren")),
        ("NAME", phrases("name\nnamen\nnachname\nnachnamen\nvorname\nvornamen\nheißen sie\nspreche ich")),
        ("QUANTITY", phrases("wie viele\nwieviele\nwie viel")),
        ("TIME", phrases("uhrzeit\nwie viel uhr\num welche zeit")),
        ("DATE", phrases("datum\nwann\nwelchen tag\nwelchem tag\nwelcher tag")),
        (
            "NUMBER",
            phrases(
                "nummer\nkundennummer\nbestellnummer\nrechnungsnummer\nvertragsnummer\nkontonummer\n"
                "auftragsnummer\npin\ncode\nziffern\niban"
            ),
        ),
        ("ADDRESS", phrases("adresse\nanschrift\nstraße\nwohnen sie")),
    ),
    yes_no=patterns(
        """
        ist/sind/haben/hat/möchten/wollen/passt/stimmt/soll/sollen/darf/wäre/war/brauchen/geht
        kann/soll/darf ich sonst/noch/ihnen/sie
        """
    ),
    choice=words("oder"),
)
